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
	// URL is the service's address; "" for the public one.
	URL     string
	Timeout time.Duration
	// Transport is nil for the usual one.
	Transport http.RoundTripper
}

// Name is "resend".
func (Resend) Name() string { return "resend" }

// mostBlind is how many people Resend takes in one letter.
const mostBlind = 50

// Send hands the letter over. The idempotency key makes sure that it is sent once,
// for a day: Resend forgets keys then.
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
	client := resend.NewCustomClient(&http.Client{Transport: seen, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("redirected") // the key is not for others
	}}, c.Key)
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

// outcome reads what a failure means; the library types only 429.
// Source: resend.com/docs/api-reference/errors.
func (c Resend) outcome(err error, status int) error {
	// The key is in no answer, but what is in an answer is not ours to know.
	said := strings.ReplaceAll(fmt.Sprintf("%.300s", strings.Join(strings.Fields(err.Error()), " ")), c.Key, "***")
	result := &backup.MailError{Err: fmt.Errorf("%d: %s", status, said)}
	switch {
	case status >= 200 && status < 300:
		return nil // taken; only its answer could not be read
	case status == http.StatusConflict && strings.Contains(strings.ToLower(said), "different"):
		// "Same idempotency key used with a different request payload": it was taken
		// before, in other words.
		return nil
	case status == http.StatusConflict, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
	case status == 0:
		result.Err = fmt.Errorf("no answer: %s", said)
	default:
		result.Permanent = true
	}
	return result
}

// statusOf remembers the status of the answer.
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
