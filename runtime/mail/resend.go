package mail

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/resend/resend-go/v2"

	"staffeln/functions/backup"
)

// Resend sends through resend.com.
type Resend struct {
	Sender
	// Key is the API key.
	Key string
	// URL is the address of the API; "" for the public one.
	URL     string
	Timeout time.Duration
	// Transport is nil for [http.DefaultTransport].
	Transport http.RoundTripper
}

// Name is "resend".
func (Resend) Name() string { return "resend" }

// mostBlind is how many recipients Resend allows in one letter.
const mostBlind = 50

// Send gives the letter to Resend, which sends one idempotency key only once in 24 hours.
func (c Resend) Send(ctx context.Context, l backup.Letter) error {
	if len(l.To) <= mostBlind {
		return c.send(ctx, l)
	}
	result := &backup.MailError{}
	for i := 0; i < len(l.To); i += mostBlind {
		part := l
		part.To = l.To[i:min(i+mostBlind, len(l.To))]
		part.Key = fmt.Sprintf("%s/%d", l.Key, i/mostBlind)
		err := c.send(ctx, part)
		if err != nil {
			one := as(err)
			result.Permanent, result.Doubt = one.Permanent, one.Doubt
			result.Err = errors.Join(result.Err, one.Err)
			continue
		}
		result.Sent = true
		for _, p := range part.To {
			result.Told = append(result.Told, p.Address)
		}
	}
	if result.Err != nil {
		return result
	}
	return nil
}

func (c Resend) send(ctx context.Context, l backup.Letter) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	seen := &statusOf{next: c.Transport}
	if seen.next == nil {
		seen.next = http.DefaultTransport
	}
	client := resend.NewCustomClient(&http.Client{
		Transport: seen,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirected") // another server must not get the key
		},
	}, c.Key)
	if c.URL != "" {
		base, err := url.Parse(strings.TrimSuffix(c.URL, "/") + "/")
		if err != nil {
			return &backup.MailError{Permanent: true, Err: err}
		}
		client.BaseURL = base
	}
	r := &resend.SendEmailRequest{
		From: c.From, ReplyTo: c.ReplyTo, Subject: header(l.Subject), Html: l.HTML, Text: l.Text,
		Headers: headers(l, c.Sender),
	}
	r.Headers["Message-ID"] = "<" + messageID(l, c.Sender) + ">"
	if len(l.To) == 1 {
		r.To = []string{l.To[0].Address}
	} else {
		r.To = []string{c.From}
		for _, p := range l.To {
			r.Bcc = append(r.Bcc, p.Address)
		}
	}
	_, err := client.Emails.SendWithOptions(ctx, r, &resend.SendEmailOptions{IdempotencyKey: fingerprint(l.Key)})
	if err == nil {
		return nil
	}
	return c.outcome(err, seen.status)
}

// outcome says what an error means. The library has a type for 429 only. Source:
// resend.com/docs/api-reference/errors.
func (c Resend) outcome(err error, status int) error {
	// No answer should contain the key, but if one does, the log does not get it.
	said := backup.Line(strings.ReplaceAll(err.Error(), c.Key, "***"), 300)
	result := &backup.MailError{Err: fmt.Errorf("%d: %s", status, said)}
	switch {
	case status >= 200 && status < 300:
		return nil // taken, although its answer could not be read
	case status == http.StatusConflict && strings.Contains(strings.ToLower(said), "different"):
		// "Same idempotency key used with a different request payload": the letter was taken before,
		// in other words.
		return nil
	case status == http.StatusConflict, status == http.StatusTooManyRequests,
		status == http.StatusRequestTimeout, status >= 500:
	case status == 0:
		result.Err = fmt.Errorf("no answer: %s", said)
	default:
		result.Permanent = true
	}
	return result
}

// statusOf remembers the status of the last answer.
type statusOf struct {
	next   http.RoundTripper
	status int
}

// RoundTrip sends the request.
func (s *statusOf) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.next.RoundTrip(r)
	if err == nil {
		s.status = answer.StatusCode
	}
	return answer, err
}
