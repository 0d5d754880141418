package config

import (
	"fmt"
	"net/mail"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The ways to send mail: the words of MAIL_CHANNELS.
const (
	ChannelResend = "resend"
	ChannelSMTP   = "smtp"
	ChannelLog    = "log"
)

// Blind is the REPORT_ADDRESSING of one mail to several people.
const Blind = "blind"

// checkReport is about whom the digests go to, and how they look.
func (l *loader) checkReport(c Config) {
	if d := c.ReportDomain; d != "" && (!isAddress("project@"+d) || !domainName.MatchString(d)) {
		l.about("REPORT_DOMAIN", "want a domain such as projects.example.org, without an @")
	}
	if c.Templates != "" {
		if entry, err := os.Stat(c.Templates); err != nil {
			l.about("TEMPLATES", "want a directory that can be read: "+err.Error())
		} else if !entry.IsDir() {
			l.about("TEMPLATES", "want a directory, which it is not")
		} else if _, err := os.ReadDir(c.Templates); err != nil {
			l.about("TEMPLATES", "want a directory that can be read: "+err.Error())
		}
	}
}

// domainName is what a mail server can be asked about (RFC 5321, 4.1.2), in
// letters beyond ASCII, too.
var domainName = regexp.MustCompile(`^[\pL\pN]([\pL\pN\pM-]*[\pL\pN\pM])?(\.[\pL\pN]([\pL\pN\pM-]*[\pL\pN\pM])?)*$`)

// checkMail is about how mail is sent, and what each way needs.
func (l *loader) checkMail(c Config) {
	channels := []string{ChannelResend, ChannelSMTP, ChannelLog}
	for i, name := range c.MailChannels {
		if !slices.Contains(channels, name) {
			l.about("MAIL_CHANNELS", fmt.Sprintf("%.60q is no way to send mail: want resend, smtp and log, by commas", name))
			break
		}
		if slices.Contains(c.MailChannels[:i], name) {
			l.about("MAIL_CHANNELS", fmt.Sprintf("%s comes twice", name))
			break
		}
	}
	needed := func(key, value, channel string) {
		if value == "" && l.sound(key) && slices.Contains(c.MailChannels, channel) {
			l.about(key, fmt.Sprintf("not set: %s needs it, which is one of STAFFELN_MAIL_CHANNELS", channel))
		}
	}
	needed("MAIL_FROM", c.MailFrom, ChannelResend)
	needed("MAIL_FROM", c.MailFrom, ChannelSMTP)
	needed("RESEND_API_KEY", c.ResendAPIKey.Reveal(), ChannelResend)
	needed("SMTP_HOST", c.SMTPHost, ChannelSMTP)

	for _, who := range []struct{ key, value string }{{"MAIL_FROM", c.MailFrom}, {"MAIL_REPLY_TO", c.MailReplyTo}} {
		if who.value != "" && !isSender(who.value) {
			l.about(who.key, "want one e-mail address, backup@example.org or Backups <backup@example.org>")
		}
	}
	if k := c.ResendAPIKey.Reveal(); k != "" && !apiKey.MatchString(k) {
		l.about("RESEND_API_KEY", "want the key itself, of letters, digits and - . _ ~ + /")
	}
	l.checkURL("RESEND_URL", c.ResendURL, "http", "https")
	if h := c.SMTPHost; h != "" && !serverName.MatchString(h) {
		l.about("SMTP_HOST", "want a name or an address alone; the port is STAFFELN_SMTP_PORT")
	}
	switch {
	case c.SMTPUser == "" && c.SMTPPassword != "":
		l.about("SMTP_USER", "want the name for STAFFELN_SMTP_PASSWORD, too, or neither")
	case c.SMTPUser != "" && c.SMTPPassword == "":
		l.about("SMTP_PASSWORD", "want the password of STAFFELN_SMTP_USER, too, or neither")
	}
}

var (
	apiKey     = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]{1,512}$`)
	serverName = regexp.MustCompile(`^([\pL\pN\pM._-]{1,253}|[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]+)?)$`)
)

// isSender says whether s is one e-mail address, with or without a name, fit for a
// header.
func isSender(s string) bool {
	if len(s) > 512 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && isAddress(a.Address)
}
