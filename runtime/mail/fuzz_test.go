package mail

import (
	"bytes"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
)

// Whatever a letter's words, names and addresses are: it is refused, or it goes over
// the wire as a letter that any reader of mail can read, with the headers that are
// ours and no other, to those people and nobody else.
func FuzzLetter(f *testing.F) {
	f.Add("alpha: 2 of 3 backups failed", "Ada", "ada@example.org", "bob@example.org", "1176721179d74e6b9f16b23e2bb580a3", "Grüße\n", "<p>Grüße</p>")
	f.Add("two\r\nBcc: eve@example.com\r\n\r\nbody", "Ada\r\nBcc: eve@example.com", "ada@example.org\r\nBcc: eve@example.com", "", "p\r\nX-Evil: 1", "\r\n.\r\nQUIT\r\n", "")
	f.Add("=?utf-8?q?=0D=0ABcc:_eve?=", `"x" <eve@example.com>,`, "ada@xn--nxasmq6b.example", "ADA@example.org", "", strings.Repeat("x", 3000), strings.Repeat("ü", 3000))
	f.Add(strings.Repeat("ü", 400), "\u202eadA", "a@[127.0.0.1]", "\"a b\"@example.org", "ü", "", "\x00")
	f.Add("", "", "a@b", "a@b", "-", "", "")
	f.Fuzz(func(t *testing.T, subject, name, first, second, list, text, html string) {
		l := backup.Letter{Key: subject + "\x00" + list, At: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC), Subject: subject, Text: text, HTML: html, List: list,
			To: []backup.Person{{Name: name, Address: first}}}
		if second != "" {
			l.To = append(l.To, backup.Person{Name: name, Address: second})
		}
		if err := Check(l); err != nil {
			if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%d bytes of error: %.300q", len(err.Error()), err)
			}
			return
		}
		c := SMTP{Sender: Sender{From: "Backups <backup@example.org>", ReplyTo: "help@example.org"}}
		m, err := c.message(l, l.To)
		if err != nil {
			t.Fatalf("a letter that was checked: %v", err)
		}
		var wire bytes.Buffer
		if _, err := m.WriteTo(&wire); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ReplaceAll(wire.String(), "\r\n", ""), "\r") || strings.Contains(strings.ReplaceAll(wire.String(), "\r\n", ""), "\n") {
			t.Fatalf("a line that ends in one half of CR LF")
		}
		read, err := mail.ReadMessage(&wire)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Reply-To", "Subject", "To", "X-Auto-Response-Suppress"}
		if html == "" {
			want = append(want, "Content-Transfer-Encoding")
		}
		if list != "" {
			want = append(want, "List-Id")
		}
		slices.Sort(want)
		var headers []string
		for name, values := range read.Header {
			headers = append(headers, name)
			if len(values) != 1 {
				t.Fatalf("%s stands there %d times", name, len(values))
			}
		}
		slices.Sort(headers)
		if d := cmp.Diff(want, headers); d != "" {
			t.Fatalf("other headers (-want +got):\n%s", d)
		}
		said, err := new(mime.WordDecoder).DecodeHeader(read.Header.Get("Subject"))
		if err != nil || strings.Join(strings.Fields(said), " ") != strings.Join(strings.Fields(header(subject)), " ") || utf8.RuneCountInString(said) > 200 {
			t.Fatalf("subject %q is read %q, %v", subject, said, err)
		}
		if !strings.HasSuffix(read.Header.Get("Message-Id"), "@example.org>") || len(read.Header.Get("Message-Id")) != len("<>@example.org")+32 {
			t.Fatalf("Message-Id %q", read.Header.Get("Message-Id"))
		}
		var told []string
		envelope, err := m.GetRecipients()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range l.To {
			told = append(told, p.Address)
		}
		for _, a := range envelope {
			parsed, err := mail.ParseAddress(a)
			if err != nil || !slices.Contains(told, parsed.Address) {
				t.Fatalf("goes to %q, but is for %q", a, told)
			}
		}
		to, err := mail.ParseAddressList(read.Header.Get("To"))
		if len(l.To) == 1 && (err != nil || len(to) != 1 || to[0].Address != first) {
			t.Fatalf("to %q is read %v, %v", read.Header.Get("To"), to, err)
		}
		if len(l.To) > 1 && len(to) != 0 {
			t.Fatalf("they see one another: %v", to)
		}
	})
}
