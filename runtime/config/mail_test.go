package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With nothing set, the digests of a day are written at six in the morning, to the
// members of each project, and into the log only.
func TestReportDefaults(t *testing.T) {
	c, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.ReportPeriod.String() != "daily@06:00" || len(c.ReportRecipients) != 0 ||
		c.ReportDomain != "" || c.ReportAddressing == Blind || len(c.ReportOperators) != 0 || c.Templates != "" {
		t.Errorf("%+v", c)
	}
	if d := cmp.Diff(List{ChannelLog}, c.MailChannels); d != "" || c.SMTPPort != 587 || c.SMTPSecurity != "starttls" || c.SMTPTLS.Insecure {
		t.Error(d, c.SMTPPort, c.SMTPSecurity, c.SMTPTLS.Insecure)
	}
}

func TestReportValues(t *testing.T) {
	dir := t.TempDir()
	c, err := Load([]string{
		"STAFFELN_TIME_ZONE=Asia/Tokyo",
		"STAFFELN_REPORT_PERIOD=0 6 * * 1",
		"STAFFELN_REPORT_RECIPIENTS=ada@example.org, bob+backup@bücher.example ,",
		"STAFFELN_REPORT_DOMAIN=projects.example.org",
		"STAFFELN_REPORT_ADDRESSING=blind",
		"STAFFELN_REPORT_OPERATORS=root@localhost",
		"STAFFELN_TEMPLATES=" + dir,
		"STAFFELN_MAIL_CHANNELS=resend, smtp,log",
		"STAFFELN_MAIL_FROM=\"Backups, nightly\" <backup@example.org>",
		"STAFFELN_MAIL_REPLY_TO=help@example.org",
		"STAFFELN_RESEND_API_KEY=re_123_abc",
		"STAFFELN_RESEND_URL=http://127.0.0.1:8025/resend",
		"STAFFELN_SMTP_HOST=::1",
		"STAFFELN_SMTP_USER=me@example.org",
		"STAFFELN_SMTP_PASSWORD=sesame open",
		"STAFFELN_SMTP_TLS=tls",
		"STAFFELN_SMTP_INSECURE=true",
	})
	if err != nil {
		t.Fatal(err)
	}
	if z := c.ReportPeriod.Zone().String(); z != "Asia/Tokyo" {
		t.Errorf("the digests go by the clock of %s", z)
	}
	if d := cmp.Diff(Addresses{"ada@example.org", "bob+backup@bücher.example"}, c.ReportRecipients); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(List{ChannelResend, ChannelSMTP, ChannelLog}, c.MailChannels); d != "" {
		t.Error(d)
	}
	if c.SMTPPassword.Reveal() != "sesame open" || c.ResendAPIKey.Reveal() != "re_123_abc" || c.ResendURL.Reveal() != "http://127.0.0.1:8025/resend" ||
		c.ReportAddressing != Blind || c.Templates != dir {
		t.Errorf("%#v", c)
	}
	if tls, err := c.SMTPTLS.Config(); err != nil || !tls.InsecureSkipVerify {
		t.Error(tls, err)
	}
}

// What a way to send mail needs is asked for with the way, all at once, and not
// without it.
func TestWhatAChannelNeeds(t *testing.T) {
	for _, tc := range []struct {
		say   string
		given []string
		want  []string // the variables complained of
	}{
		{"the log needs nothing", []string{"MAIL_CHANNELS=log"}, nil},
		{"a server that is not used needs no sender", []string{"SMTP_HOST=mail", "RESEND_API_KEY=re_1"}, nil},
		{"Resend needs a key and a sender", []string{"MAIL_CHANNELS=resend"}, []string{"MAIL_FROM", "RESEND_API_KEY"}},
		{"SMTP needs a server and a sender", []string{"MAIL_CHANNELS=log,smtp"}, []string{"MAIL_FROM", "SMTP_HOST"}},
		{"both need the sender once", []string{"MAIL_CHANNELS=smtp,resend"}, []string{"MAIL_FROM", "RESEND_API_KEY", "SMTP_HOST"}},
		{"a sender that is none is complained of once", []string{"MAIL_CHANNELS=smtp", "MAIL_FROM=x", "SMTP_HOST=mail"}, []string{"MAIL_FROM"}},
		{"a login is a user and a password", []string{"SMTP_USER=me"}, []string{"SMTP_PASSWORD"}},
		{"neither alone", []string{"SMTP_PASSWORD=pw"}, []string{"SMTP_USER"}},
	} {
		t.Run(tc.say, func(t *testing.T) {
			var environ, got []string
			for _, g := range tc.given {
				environ = append(environ, Prefix+g)
			}
			_, err := Load(environ)
			all, _ := err.(Complaints)
			for _, c := range all {
				got = append(got, strings.TrimPrefix(c.Variable, Prefix))
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d, err)
			}
		})
	}
}

func TestSMTPTLS(t *testing.T) {
	c, err := Load([]string{"STAFFELN_SMTP_CA=" + pair(t) + ".crt"})
	if err != nil {
		t.Fatal(err)
	}
	if tls, err := c.SMTPTLS.Config(); err != nil || tls.RootCAs == nil || tls.InsecureSkipVerify {
		t.Error(tls, err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{"STAFFELN_SMTP_CA=" + file}); err == nil || !strings.Contains(err.Error(), "certificates in PEM") {
		t.Error(err)
	}
}
