package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/report"
	"staffeln/functions/report/words"
	"staffeln/runtime/ledger"
	"staffeln/runtime/mail"
	"staffeln/runtime/openstack"
	"staffeln/runtime/process"
)

type reportCommand struct {
	Preview previewCommand `cmd:"" help:"Write a project's digest of the period so far, from what is known now. Changes nothing."`
}

type previewCommand struct {
	Project string `required:"" placeholder:"PROJECT" help:"The project, by id or name."`
	Out     string `placeholder:"FILE" help:"Write to this file instead of the standard output."`
	Text    bool   `help:"Write the plain text instead of the HTML."`
	SendTo  string `placeholder:"ADDRESS" help:"Send it there, too, as the settings say, instead of writing it to the standard output."`
}

// Run writes the digest.
func (c previewCommand) Run(ctx context.Context) error {
	return c.print(ctx, os.Environ(), time.Now(), os.Stdout)
}

func (c previewCommand) print(ctx context.Context, environ []string, now time.Time, out io.Writer) error {
	if c.SendTo != "" && !mail.Address(c.SendTo) {
		return fmt.Errorf("--send-to %.80q is no e-mail address", c.SendTo)
	}
	s, err := settings(environ)
	if err != nil {
		return err
	}
	if s.RedisURL == "" {
		return errNoLedger
	}
	secure, err := s.RedisTLS.Config()
	if err != nil {
		return err
	}
	quietRedis()
	h := process.New(s, s.Logger(os.Stderr)) // where the channel log writes
	if h.Redis, err = ledger.Open(s.RedisURL.Reveal(), secure); err != nil {
		return fmt.Errorf("STAFFELN_REDIS_URL: %w", err)
	}
	defer h.Close()
	// Not checked as for running: that would write into an empty one.
	h.Ledger = ledger.New(h.Redis, ledger.Options{Shards: s.Shards})
	o := s.CloudOptions(warnings())
	o.Limiter, o.Witness = ledger.NewLimiter(h.Redis, s.APIRate), h.Ledger
	if h.Cloud, err = openstack.Connect(ctx, o); err != nil {
		return err
	}
	project, err := c.find(ctx, h)
	if err != nil {
		return err
	}
	f := h.Needs(h.Cloud).Report()
	digest, written, err := f.Preview(ctx, h.Ledger, project, now)
	if written.Text == "" {
		return err
	}
	// What is wrong with the operator's templates keeps nobody from seeing the rest.
	return errors.Join(err, c.deliver(ctx, f, digest, written, now, out))
}

func (c previewCommand) deliver(ctx context.Context, f *report.Function, digest backup.Digest, written words.Written, now time.Time, out io.Writer) error {
	what := written.HTML
	if c.Text {
		what = "Subject: " + written.Subject + "\n\n" + written.Text
	}
	switch {
	case c.Out != "":
		if err := os.WriteFile(c.Out, []byte(what), 0o600); err != nil {
			return err
		}
	case c.SendTo == "":
		_, err := io.WriteString(out, what)
		return err
	}
	if c.SendTo == "" {
		return nil
	}
	if err := f.Mail.Send(ctx, report.PreviewLetter(digest, written, c.SendTo, now)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "sent to", c.SendTo)
	return err
}

// find is the id of the project, among those that the ledger knows.
func (c previewCommand) find(ctx context.Context, h *process.Process) (string, error) {
	var ids []string
	for shard := range h.Ledger.Shards() {
		more, err := h.Ledger.Projects(ctx, shard)
		if err != nil {
			return "", err
		}
		ids = append(ids, more...)
	}
	var found []string
	var errs []error
	for _, id := range ids {
		if id == c.Project {
			return id, nil
		}
		p, _, err := h.Cloud.Project(ctx, id)
		if err != nil && backup.FaultOf(err) != backup.Gone {
			errs = append(errs, fmt.Errorf("project %s: %w", id, err))
		}
		if err == nil && p.Name == c.Project {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("several projects are named %.100q: name one by its id: %s", c.Project, strings.Join(found, ", "))
	}
	return "", errors.Join(append([]error{fmt.Errorf("nothing is known of a project %.100q: no server of it has opted in, and nothing of it has been backed up", c.Project)}, errs...)...)
}
