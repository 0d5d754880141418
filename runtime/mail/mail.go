// Package mail sends letters: through Resend, through an SMTP server, or into the log.
//
// A letter's key stays the same however often the letter is sent. The Message-ID and Resend's
// idempotency key are made from it, so that a receiver can recognise a duplicate.
package mail

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"staffeln/functions/backup"
)

// A Channel sends letters in one way.
type Channel interface {
	// Name is the channel's name in the settings: "smtp".
	Name() string
	// Send hands the letter over. An error is a [*backup.MailError].
	Send(ctx context.Context, l backup.Letter) error
}

// Post sends letters through the first channel that takes them.
type Post struct {
	// Channels are tried in this order. The next one is tried if one refuses the letter for good,
	// or has failed for about an hour.
	Channels []Channel
	Log      *slog.Logger
	// Count adds n to a counter of runtime/metrics.
	Count func(name string, n float64, labels ...string)
}

// patience is how many temporary failures of a channel are tried again before the next channel is
// tried: about an hour, by the backoff of functions/report.
const patience = 6

// Send sends the letter. An error is a [*backup.MailError] that says who has the letter all the same.
func (p *Post) Send(ctx context.Context, l backup.Letter) error {
	if err := Check(l); err != nil {
		return &backup.MailError{Permanent: true, Err: err}
	}
	var last error
	for i, c := range p.Channels {
		err := c.Send(ctx, l)
		if err == nil {
			p.Count("letters_total", 1, c.Name(), "sent")
			return nil
		}
		failed := as(err)
		failed.Err = fmt.Errorf("%s: %w", c.Name(), failed.Err)
		last = failed
		outcome := "later"
		switch {
		case failed.Sent:
			outcome = "partly"
		case failed.Permanent:
			outcome = "refused"
		}
		p.Count("letters_total", 1, c.Name(), outcome)
		more := i+1 < len(p.Channels)
		mayPass := !failed.Permanent &&
			(l.Tries < patience || failed.Doubt || more && p.Channels[i+1].Name() == LogName)
		if failed.Sent || ctx.Err() != nil || mayPass {
			return last
		}
		if more {
			p.Log.WarnContext(ctx, "letter goes to the next channel", "project", l.List, "why", failed.Err.Error())
		}
	}
	if last == nil {
		last = &backup.MailError{Permanent: true, Err: errors.New("no channel is configured")}
	}
	return last
}

func as(err error) *backup.MailError {
	if e, ok := errors.AsType[*backup.MailError](err); ok {
		return e
	}
	return &backup.MailError{Err: err}
}

// Check says what is wrong with a letter: no recipient, no key, or an invalid address. Names and
// subjects may be anything; see [header].
func Check(l backup.Letter) error {
	if len(l.To) == 0 {
		return errors.New("the letter has no recipient")
	}
	if l.Key == "" {
		return errors.New("the letter has no key")
	}
	for _, p := range l.To {
		if !Address(p.Address) {
			return fmt.Errorf("%.80q is not an e-mail address", p.Address)
		}
	}
	return nil
}

// Address says whether a text is one e-mail address without a name, of at most 254 bytes.
func Address(s string) bool {
	if len(s) > 254 || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`<>()[],;:\"`, r)
	}) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && a.Name == ""
}

// header fits a tenant's words into a header. "=?" would be read as the begin of encoded text
// (RFC 2047, 2).
func header(s string) string { return backup.Line(strings.ReplaceAll(s, "=?", "= ?"), 200) }

// Sender is who letters come from.
type Sender struct {
	// From is the address, with or without a name: "Backups <backup@example.org>".
	From string
	// ReplyTo is an address, "" for none.
	ReplyTo string
}

// Domain returns the domain of From; "localhost" if From is invalid.
func (s Sender) Domain() string {
	a, err := mail.ParseAddress(s.From)
	if err != nil {
		return "localhost"
	}
	_, domain, _ := strings.Cut(a.Address, "@")
	return cmp.Or(domain, "localhost")
}

// fingerprint returns a letter's key as 32 hexadecimal digits.
func fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// messageID returns the letter's Message-ID without brackets.
func messageID(l backup.Letter, s Sender) string { return fingerprint(l.Key) + "@" + s.Domain() }

// headers returns the headers that say what kind of mail it is.
func headers(l backup.Letter, s Sender) map[string]string {
	h := map[string]string{
		"Auto-Submitted": "auto-generated", // RFC 3834: no out-of-office answers
		// Exchange and Outlook know only this header.
		"X-Auto-Response-Suppress": "All",
	}
	if l.List != "" {
		id := strings.Map(func(r rune) rune {
			if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-') {
				return r
			}
			return '-'
		}, l.List)
		h["List-Id"] = "<" + id[:min(len(id), 64)] + ".backups." + s.Domain() + ">"
	}
	return h
}

// LogName is the name of the channel that only writes into the log.
const LogName = "log"

// Log writes letters into the log.
type Log struct{ Log *slog.Logger }

// Name is "log".
func (Log) Name() string { return LogName }

// Send writes one line.
func (c Log) Send(ctx context.Context, l backup.Letter) error {
	to := make([]string, len(l.To))
	for i, p := range l.To {
		to[i] = p.Address
	}
	c.Log.InfoContext(ctx, "letter", "project", l.List, "to", to, "subject", header(l.Subject),
		"date", l.At.UTC().Format(time.RFC3339), "text", l.Text)
	return nil
}
