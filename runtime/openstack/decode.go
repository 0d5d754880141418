package openstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// decode reads a whole JSON answer. Its errors name the field, never the value.
func decode(a answer, into any) error {
	body := bytes.TrimSpace(a.body)
	if len(body) == 0 || body[0] != '{' {
		said, _ := readError(a.header.Get("Content-Type"), body)
		if len(body) > 0 && json.Valid(body) {
			said = "JSON of another shape than OpenStack's"
		}
		return errors.New(said)
	}
	return unmarshal(body, into)
}

func unmarshal(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(t.Value, " ") // "number 17" says too much
		return fmt.Errorf("%s is a %s, which it must not be", or(t.Field, "the answer"), kind)
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("broken JSON at byte %d of %d", s.Offset, len(body))
	}
	if err != nil {
		return errors.New("a field of the answer cannot be read")
	}
	return nil
}

// validID knows what an id of OpenStack's can be: UUIDs with and without
// hyphens, and the names Keystone takes for ids ("default"). Such an id may
// stand in a path as it is.
func validID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '-', r == '_':
		default:
			return false
		}
	}
	return true
}

// readTime reads Cinder's times, "2026-11-22T11:04:09.000000", which are UTC
// without saying so (oslo.utils timeutils, naive datetimes).
func readTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05", s)
	if err != nil {
		if t, err = time.Parse(time.RFC3339, s); err != nil {
			return time.Time{}, errors.New("a time cannot be read")
		}
	}
	return t.UTC(), nil
}
