package policy

import (
	"bytes"
	"errors"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"staffeln/events/wire"
	"staffeln/functions/backup"
)

// The types of a body, by oslo.policy's option remote_content_type.
const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// errType refuses a body by its type.
var errType = errors.New("the body is neither " + formType + " nor " + jsonType)

// decode reads what oslo.policy sends (oslo_policy/_external.py, _construct_payload):
// the fields rule, target and credentials, each of them JSON, as a form or as one
// JSON document. scratch is where a form's values are written; it may be overwritten
// after decode has returned.
//
// A field that is there twice, or of another type than Cinder writes, is an error: two readers
// of one body must not come to different results. Every field may be missing, and an empty body
// is an empty request. Errors reveal nothing of the body.
func decode(contentType string, body, scratch []byte) (p backup.CheckRequest, _ []byte, err error) {
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		return p, scratch, nil
	}
	form, err := isForm(contentType, body)
	if err != nil {
		return p, scratch, err
	}
	if form {
		return decodeForm(body, scratch)
	}
	err = decodeDocument(body, &p)
	return p, scratch, err
}

// isForm says whether the body is a form, or else JSON. Without a type, the first character
// decides.
func isForm(contentType string, body []byte) (bool, error) {
	switch contentType { // as requests writes them
	case formType:
		return true, nil
	case jsonType:
		return false, nil
	case "":
		return bytes.TrimLeft(body, " \t\r\n")[0] != '{', nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false, errType
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1":
		// Python writes JSON in ASCII: in all of these it is the same.
	default:
		return false, errors.New("the character set of the body is not supported")
	}
	switch media {
	case formType:
		return true, nil
	case jsonType:
		return false, nil
	}
	return false, errType
}

func decodeDocument(doc []byte, p *backup.CheckRequest) error {
	if !utf8.Valid(doc) {
		return errors.New("the body is not UTF-8")
	}
	var once seen
	s := wire.Scan(doc)
	for s.Object(); s.Next(); {
		switch string(s.Key) {
		case "rule":
			once.take(1)
			if err := readRule(&s, p); err != nil {
				return err
			}
		case "target":
			once.take(2)
			if err := readTarget(&s, p); err != nil {
				return err
			}
		case "credentials":
			once.take(4)
			if err := readCredentials(&s, p); err != nil {
				return err
			}
		default:
			s.Skip()
		}
	}
	return errors.Join(s.End(), once.err())
}

// decodeForm reads the fields in place: url.ParseQuery would copy them twice.
func decodeForm(body, scratch []byte) (p backup.CheckRequest, _ []byte, err error) {
	var once seen
	for rest := body; len(rest) > 0; {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte{'&'})
		if len(field) == 0 {
			continue
		}
		rawName, rawValue, _ := bytes.Cut(field, []byte{'='})
		var name, value []byte
		if name, err = unescape(scratch[:0], rawName); err != nil {
			return p, scratch, err
		}
		var read func(*wire.Scanner, *backup.CheckRequest) error
		switch string(name) {
		case "rule":
			once.take(1)
			read = readRule
		case "target":
			once.take(2)
			read = readTarget
		case "credentials":
			once.take(4)
			read = readCredentials
		default: // an operator's proxy may add fields
			continue
		}
		if value, err = unescape(scratch[:0], rawValue); err != nil {
			return p, scratch, err
		}
		scratch = value
		if !utf8.Valid(value) {
			return p, scratch, errors.New("a field of the form is not UTF-8")
		}
		s := wire.Scan(value)
		if err = errors.Join(read(&s, &p), s.End()); err != nil {
			return p, scratch, err
		}
	}
	return p, scratch, once.err()
}

// unescape decodes a part of a form and appends it to out. It refuses a semicolon, because some
// readers take it for a separator of fields and others do not.
func unescape(out, raw []byte) ([]byte, error) {
	out = slices.Grow(out, len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return out, errors.New("the form has an invalid escape")
			}
			out = append(out, unhex(raw[i+1])<<4|unhex(raw[i+2]))
			i += 2
		case ';':
			return out, errors.New("the form has a semicolon that is not escaped")
		default:
			out = append(out, c)
		}
	}
	return out, nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// readRule reads the name of the policy, "" for null.
func readRule(s *wire.Scanner, p *backup.CheckRequest) (err error) {
	p.Rule, err = text(s.Value(), "rule")
	return err
}

// readTarget reads the backup. Cinder writes all of it, metadata included (cinder/context.py,
// authorize; objects/backup.py). Without an id or metadata it does not count as shown.
func readTarget(s *wire.Scanner, p *backup.CheckRequest) (err error) {
	if s.Is('n') { // null: the policy is about nothing in particular
		s.Skip()
		return nil
	}
	var once seen
	metadata := false
	for s.Object(); s.Next() && err == nil; {
		switch string(s.Key) {
		case "id":
			once.take(1)
			p.Backup, err = id(s.Value())
		case "user_id":
			once.take(2)
			p.Creator, err = text(s.Value(), "target's user_id")
		case "metadata":
			once.take(4)
			metadata, err = readMetadata(s, p)
		default:
			s.Skip()
		}
	}
	p.Shown = metadata && p.Backup != ""
	return errors.Join(err, once.err())
}

func readMetadata(s *wire.Scanner, p *backup.CheckRequest) (there bool, err error) {
	if s.Is('n') {
		s.Skip()
		return false, nil
	}
	var once seen
	for s.Object(); s.Next() && err == nil; {
		if string(s.Key) == backup.MetaAutomated {
			once.take(1)
			p.Mark, err = text(s.Value(), "mark")
		} else {
			s.Skip()
		}
	}
	return true, errors.Join(err, once.err())
}

// readCredentials reads who asks (oslo_context, to_policy_values).
func readCredentials(s *wire.Scanner, p *backup.CheckRequest) (err error) {
	if s.Is('n') {
		s.Skip()
		return nil
	}
	var once seen
	for s.Object(); s.Next() && err == nil; {
		switch string(s.Key) {
		case "user_id":
			once.take(1)
			p.User, err = text(s.Value(), "credentials' user_id")
		case "roles":
			once.take(2)
			if s.Is('n') {
				s.Skip()
				continue
			}
			for s.List(); s.Element() && err == nil; {
				var role string
				role, err = text(s.Value(), "role")
				p.Roles = append(p.Roles, role)
			}
		default:
			s.Skip()
		}
	}
	return errors.Join(err, once.err())
}

// text reads a text, "" for null. It is also "" if the document is broken, which the scanner's
// End reports.
func text(v wire.Value, what string) (string, error) {
	t, ok := v.Text()
	if !ok && !v.IsNull() {
		return "", errors.New(what + " is not text")
	}
	return t, nil
}

func id(v wire.Value) (string, error) {
	t, err := text(v, "target's id")
	if err != nil || t == "" {
		return "", err
	}
	clean, ok := wire.ResourceID(t)
	if !ok {
		return "", errors.New("target's id is not an id")
	}
	return clean, nil
}

// seen notices fields that come twice.
type seen struct{ once, twice uint8 }

func (s *seen) take(bit uint8) {
	s.twice |= s.once & bit
	s.once |= bit
}

func (s *seen) err() error {
	if s.twice != 0 {
		return errors.New("the body has a field twice")
	}
	return nil
}
