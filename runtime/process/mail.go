package process

import (
	"net/http"
	"time"

	"staffeln/runtime/config"
	"staffeln/runtime/mail"
)

// mailTimeout is how long sending one mail may take: long enough for a mail server that
// delays strangers, and far less than a tick of report may take.
const mailTimeout = 30 * time.Second

// Mailer sends letters as the settings say.
func (p *Process) Mailer() *mail.Post {
	s := p.Settings
	m := &mail.Post{Log: p.Log.With("function", "report"), Count: p.Metrics.Count}
	from := mail.Sender{From: s.MailFrom, ReplyTo: s.MailReplyTo}
	for _, name := range s.MailChannels {
		switch name {
		case config.ChannelResend:
			secure, err := s.ResendTLS().Config()
			if err != nil {
				p.Log.Error("STAFFELN_RESEND_CA", "err", err) // as below
			}
			var transport http.RoundTripper // the usual one
			if secure != nil {
				t := http.DefaultTransport.(*http.Transport).Clone()
				t.TLSClientConfig = secure
				transport = t
			}
			m.Channels = append(m.Channels, mail.Resend{Sender: from, Key: s.ResendAPIKey.Reveal(), URL: s.ResendURL.Reveal(),
				Timeout: mailTimeout, Transport: transport})
		case config.ChannelSMTP:
			secure, err := s.SMTPTLS.Config()
			if err != nil {
				// It was readable at the start. Without it, the system's certificates have to do.
				p.Log.Error("TLS to the mail server", "err", err)
			}
			m.Channels = append(m.Channels, mail.SMTP{Sender: from, Host: s.SMTPHost, Port: s.SMTPPort, Security: s.SMTPSecurity,
				User: s.SMTPUser, Password: s.SMTPPassword.Reveal(), TLS: secure, Timeout: mailTimeout})
		default:
			m.Channels = append(m.Channels, mail.Log{Log: m.Log})
		}
	}
	return m
}
