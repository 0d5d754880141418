package wire

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// read reads a document with the scanner to what encoding/json makes of it, but
// for numbers, which stay as written.
func read(s *Scanner) any {
	switch {
	case s.Is('{'):
		m := map[string]any{}
		for s.Object(); s.Next(); {
			key := string(s.Key)
			m[key] = read(s)
		}
		return m
	case s.Is('['):
		l := []any{}
		for s.List(); s.Element(); {
			l = append(l, read(s))
		}
		return l
	case s.Is('"'):
		out, _ := s.Unquote(nil)
		return string(out)
	}
	switch v := s.Value(); {
	case v.IsNull():
		return nil
	case v[0] == 't', v[0] == 'f':
		return v[0] == 't'
	default:
		return json.Number(v)
	}
}

func reference(doc []byte) any {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	return v
}

// The scanner accepts what encoding/json accepts, whether it passes over it or
// reads it, and reads the same.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, `[1, 2.5, -0, 1e5, 1E-5, 0.0]`, `01`, `1.`, `-`, `.5`, `1e`, `"a\u00e9\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud8000udC00"`,
		`"\ud83d\u0041"`, "\"\xff\xc3\"", `"\u12g4"`, `{"a":1,}`, `{"a" 1}`, `{,}`, `[,]`, `[1 2]`, `tru`, `nul`, `{"a":{"b":[{}]}}`, "\x00", `"` + "\t" + `"`, ` [ ] `,
		"{\"\xff\xfe\": 1, \"k\\u0041\": [null, true, false], \"\": \"0123456\x1f\"}", `{"a": [], "a": {"b": ""}}`, `[[1], {"a": 2}, 3]`, `"01234567\n9"`, "\"0123456\x80\x7f\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		valid := json.Valid(doc)
		s := Scan(doc)
		s.Skip()
		if err := s.End(); valid != (err == nil) {
			t.Fatalf("passed over: the scanner says %v, encoding/json %t", err, valid)
		} else if err != nil && len(err.Error()) > 100 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
		s = Scan(doc)
		got := read(&s)
		if err := s.End(); valid != (err == nil) {
			t.Fatalf("read: the scanner says %v, encoding/json %t", err, valid)
		}
		if !valid {
			return
		}
		if d := cmp.Diff(reference(doc), got); d != "" {
			t.Fatalf("otherwise than encoding/json (-want +got):\n%s", d)
		}
		s = Scan(doc)
		if want, ok := got.(string); ok {
			prefix := s.UnquotePrefix(make([]byte, 0, 16))
			if !strings.HasPrefix(want, string(prefix)) || len(prefix) < min(len(want), 16-4) {
				t.Fatalf("the beginning of %q reads as %q", want, prefix)
			}
			if text, ok := s.Value().Text(); !ok || text != want {
				t.Fatalf("as a text: %q, want %q", text, want)
			}
		}
	})
}

func TestNesting(t *testing.T) {
	for depth, want := range map[int]bool{MaxDepth: true, MaxDepth + 1: false} {
		doc := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		s := Scan(doc)
		if s.Skip(); (s.End() == nil) != want || json.Valid(doc) != want {
			t.Errorf("%d lists in one another are passed over: %t, want %t", depth, !want, want)
		}
		s = Scan(doc)
		if read(&s); (s.End() == nil) != want {
			t.Errorf("%d lists in one another are read: %t, want %t", depth, !want, want)
		}
	}
}

func TestADocumentThatIsNotReadToItsEnd(t *testing.T) {
	s := Scan([]byte(`{"a": 1, "b": 2}`))
	if s.Object(); !s.Next() || string(s.Value()) != "1" || s.End() == nil {
		t.Errorf("stopped after the first member: %v", s.End())
	}
}

func TestWhatIsOfAnotherKind(t *testing.T) {
	for sentence, c := range map[string]struct {
		v    Value
		read func(*Optional, Value) any
		want any
		odd  bool
	}{
		"a text":               {Value(`"a"`), func(o *Optional, v Value) any { return o.Text(v) }, "a", false},
		"no text":              {nil, func(o *Optional, v Value) any { return o.Text(v) }, "", false},
		"null is no text":      {Value(`null`), func(o *Optional, v Value) any { return o.Text(v) }, "", false},
		"a number is no text":  {Value(`1`), func(o *Optional, v Value) any { return o.Text(v) }, "", true},
		"a number":             {Value(`-12`), func(o *Optional, v Value) any { return o.Int(v) }, -12, false},
		"no number":            {nil, func(o *Optional, v Value) any { return o.Int(v) }, 0, false},
		"a fraction is none":   {Value(`1.0`), func(o *Optional, v Value) any { return o.Int(v) }, 0, true},
		"a text is no number":  {Value(`"1"`), func(o *Optional, v Value) any { return o.Int(v) }, 0, true},
		"true":                 {Value(`true`), func(o *Optional, v Value) any { return o.Bool(v) }, true, false},
		"false":                {Value(`false`), func(o *Optional, v Value) any { return o.Bool(v) }, false, false},
		"no truth":             {nil, func(o *Optional, v Value) any { return o.Bool(v) }, false, false},
		"a number is no truth": {Value(`1`), func(o *Optional, v Value) any { return o.Bool(v) }, false, true},
	} {
		var o Optional
		if got := c.read(&o, c.v); got != c.want || o.Odd() != c.odd {
			t.Errorf("%s: %v, odd %t", sentence, got, o.Odd())
		}
	}
}

// Metadata are read as encoding/json would.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{
		`{"a": "b", "n": 1, "o": {"x": [ 1 ]}, "z": null}`, `{}`, `[]`, `[{"key": "a", "value": "b", "id": 7}]`, `[{"key": "a"}]`, `[{"value": "b"}]`,
		`[{"key": null, "value": ""}]`, `[null]`, `["a"]`, `"{}"`, `null`, ``, `7`, "{\"\xff\xff\": \"\xff\"}", `{"\u0061": "\u0062"}`, `{"a": 1} x`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 0 && !json.Valid(raw) {
			return // a value out of a document that was read
		}
		raw = bytes.TrimSpace(raw)
		got, ok := Metadata(raw)
		want, wantOK := metadataByJSON(raw)
		if ok != wantOK || !maps.Equal(got, want) || (got == nil) == ok {
			t.Fatalf("%v %t, by encoding/json %v %t", got, ok, want, wantOK)
		}
	})
}

func metadataByJSON(raw []byte) (map[string]string, bool) {
	text := func(v json.RawMessage) (s string) {
		if json.Unmarshal(v, &s) != nil {
			return string(v)
		}
		return s
	}
	m := map[string]string{}
	var object map[string]json.RawMessage
	if bytes.HasPrefix(raw, []byte("{")) && json.Unmarshal(raw, &object) == nil {
		for k, v := range object {
			m[k] = text(v)
		}
		return m, true
	}
	var list []map[string]json.RawMessage
	if !bytes.HasPrefix(raw, []byte("[")) || json.Unmarshal(raw, &list) != nil {
		return nil, false
	}
	for _, pair := range list {
		var key *string
		if json.Unmarshal(pair["key"], &key) != nil || key == nil {
			return nil, false
		}
		m[*key] = text(pair["value"])
	}
	return m, true
}

func TestIDs(t *testing.T) {
	const id = "ef821e4c-ab20-4166-b0ce-f518d0f7e79a"
	for sentence, c := range map[string]struct {
		ids  []string
		want string
	}{
		"a UUID":                          {[]string{id}, id},
		"in lower case":                   {[]string{strings.ToUpper(id)}, id},
		"the first that is there":         {[]string{"", id, "x"}, id},
		"not the second if the first is":  {[]string{"x", id}, ""},
		"none":                            {nil, ""},
		"without hyphens":                 {[]string{strings.ReplaceAll(id, "-", "")}, ""},
		"with something else for a digit": {[]string{"g" + id[1:]}, ""},
	} {
		if got, ok := ResourceID(c.ids...); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q %t", sentence, got, ok)
		}
	}
	for sentence, c := range map[string]struct{ id, want string }{
		"without hyphens":  {"1176721179D74E6B9F16B23E2BB580A3", "1176721179d74e6b9f16b23e2bb580a3"},
		"with hyphens":     {id, id},
		"one digit short":  {"1176721179d74e6b9f16b23e2bb580a", ""},
		"a name":           {"admin", ""},
		"a colon in front": {":176721179d74e6b9f16b23e2bb580a3", ""},
	} {
		if got, ok := ProjectID(c.id); got != c.want || ok != (c.want != "") {
			t.Errorf("a project %s: %q %t", sentence, got, ok)
		}
	}
}
