package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"staffeln/functions/backup"
)

// SMTP sends through a mail server.
type SMTP struct {
	Sender
	Host string
	Port int
	// Security is "starttls" (nothing is sent without it), "tls" (from the first byte) or "none".
	Security string
	// User and Password log in; there is no login if User is "".
	User, Password string
	// TLS is nil for the system's certificates.
	TLS *tls.Config
	// Timeout bounds the whole conversation about a letter.
	Timeout time.Duration
}

// Name is "smtp".
func (SMTP) Name() string { return "smtp" }

// Send gives the letter to the server. Several people get blind copies in one conversation. If the
// server refuses some of them, the others get the letter one by one.
func (c SMTP) Send(ctx context.Context, l backup.Letter) error {
	err := c.send(ctx, l, l.To)
	if err == nil || len(l.To) == 1 || !refusesSome(err) {
		return outcome(err)
	}
	result := &backup.MailError{Refused: map[string]string{}}
	var errs []error
	for _, p := range l.To {
		one := as(outcome(c.send(ctx, l, []backup.Person{p})))
		switch {
		case one.Err == nil:
			result.Sent = true
			result.Told = append(result.Told, p.Address)
		case one.Permanent:
			result.Refused[p.Address] = one.Err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", p.Address, one.Err))
		default:
			result.Doubt = result.Doubt || one.Doubt
			errs = append(errs, fmt.Errorf("%s: %w", p.Address, one.Err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	result.Permanent = len(result.Refused) == len(l.To)
	result.Err = errors.Join(errs...)
	return result
}

func refusesSome(err error) bool {
	e, ok := errors.AsType[*gomail.SendError](err)
	return ok && e.Reason == gomail.ErrSMTPRcptTo
}

// outcome says whether the letter may have been taken in spite of an error, and whether to try again.
func outcome(err error) error {
	if err == nil {
		return nil
	}
	result := &backup.MailError{Err: err}
	e, ok := errors.AsType[*gomail.SendError](err)
	if !ok {
		return result // there was no connection, greeting or login: nothing was sent
	}
	// The library's error contains the addresses and every answer, in several lines.
	result.Err = errors.New(strings.Join(strings.Fields(e.Error()), " "))
	switch {
	case e.ErrorCode() >= 500:
		result.Permanent = true
	case e.ErrorCode() >= 400:
	case e.Reason == gomail.ErrSMTPDataClose:
		result.Doubt = true // the whole message was sent, and the answer did not come
	case e.Reason == gomail.ErrNoUnencoded, e.Reason == gomail.ErrGetSender, e.Reason == gomail.ErrGetRcpts:
		result.Permanent = true
	}
	return result
}

func (c SMTP) send(ctx context.Context, l backup.Letter, to []backup.Person) error {
	m, err := c.message(l, to)
	if err != nil {
		return &backup.MailError{Permanent: true, Err: err}
	}
	client, err := c.client()
	if err != nil {
		return &backup.MailError{Permanent: true, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err = client.DialAndSendWithContext(ctx, m)
	if m.IsDelivered() {
		return nil // the server took the letter, and something failed afterwards
	}
	return err
}

func (c SMTP) client() (*gomail.Client, error) {
	o := []gomail.Option{gomail.WithPort(c.Port), gomail.WithTimeout(c.Timeout)}
	secure := &tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12}
	if c.TLS != nil {
		secure = c.TLS.Clone()
		secure.ServerName = c.Host
	}
	auth := gomail.SMTPAuthAutoDiscover
	switch c.Security {
	case "tls":
		o = append(o, gomail.WithSSL(), gomail.WithTLSConfig(secure))
	case "none":
		// The operator has configured a login without encryption.
		auth = gomail.SMTPAuthPlainNoEnc
		o = append(o, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		o = append(o, gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithTLSConfig(secure))
	}
	if c.User != "" {
		o = append(o, gomail.WithSMTPAuth(auth), gomail.WithUsername(c.User), gomail.WithPassword(c.Password))
	}
	return gomail.NewClient(c.Host, o...)
}

// message returns the letter as a mail.
func (c SMTP) message(l backup.Letter, to []backup.Person) (*gomail.Msg, error) {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := m.From(c.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if c.ReplyTo != "" {
		if err := m.ReplyTo(c.ReplyTo); err != nil {
			return nil, fmt.Errorf("reply to: %w", err)
		}
	}
	for _, p := range to {
		// net/mail does not escape a backslash in an encoded name, and readers, net/mail among them,
		// take it for an escape.
		a := &mail.Address{Name: strings.ReplaceAll(header(p.Name), `\`, "/"), Address: p.Address}
		if len(l.To) == 1 {
			m.AddToMailAddress(a)
		} else {
			m.AddBccMailAddress(a)
		}
	}
	if len(l.To) > 1 {
		m.SetGenHeaderPreformatted("To", "undisclosed-recipients:;")
	}
	m.Subject(header(l.Subject))
	m.SetMessageIDWithValue(messageID(l, c.Sender))
	m.SetDateWithValue(l.At)
	for name, value := range headers(l, c.Sender) {
		m.SetGenHeaderPreformatted(gomail.Header(name), value)
	}
	m.SetBodyString(gomail.TypeTextPlain, l.Text)
	if l.HTML != "" {
		m.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	}
	return m, nil
}
