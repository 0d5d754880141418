package oslo

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// A scanner walks over a JSON document without building anything. It accepts
// exactly what encoding/json accepts. A method that returns false leaves i at
// the byte it did not expect.
type scanner struct {
	b []byte
	i int
}

// maxDepth is how deep arrays and objects may be nested: encoding/json's limit.
const maxDepth = 10_000

func (s *scanner) malformed() error {
	if s.i >= len(s.b) {
		return fmt.Errorf("JSON that ends too early, after %d bytes", len(s.b))
	}
	return fmt.Errorf("not JSON at byte %d of %d", s.i, len(s.b))
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// open takes the brace or bracket that a value begins with.
func (s *scanner) open(c byte) bool {
	s.space()
	return s.take(c)
}

func (s *scanner) take(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// end says whether nothing but white space is left.
func (s *scanner) end() bool {
	s.space()
	return s.i == len(s.b)
}

// key takes the next key of an object and stops before its value. more is false
// at the object's end. A key with escapes in it is decoded.
func (s *scanner) key(first bool) (key []byte, more, ok bool) {
	s.space()
	if s.take('}') {
		return nil, false, true
	}
	if !first {
		if !s.take(',') {
			return nil, false, false
		}
		s.space()
	}
	start := s.i
	key, ok = s.str()
	if !ok {
		return nil, false, false
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		again := scanner{b: s.b, i: start}
		if key, ok = again.unquote(nil); !ok {
			return nil, false, false
		}
	}
	s.space()
	if !s.take(':') {
		return nil, false, false
	}
	s.space()
	return key, true, true
}

// skip passes over one value; depth is that of the container it is in.
func (s *scanner) skip(depth int) bool {
	if s.i >= len(s.b) {
		return false
	}
	switch c := s.b[s.i]; {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{':
		if depth >= maxDepth {
			return false
		}
		s.i++
		for first := true; ; first = false {
			s.space()
			if s.take('}') {
				return true
			}
			if !first {
				if !s.take(',') {
					return false
				}
				s.space()
			}
			if _, ok := s.str(); !ok {
				return false
			}
			s.space()
			if !s.take(':') {
				return false
			}
			s.space()
			if !s.skip(depth + 1) {
				return false
			}
		}
	case c == '[':
		if depth >= maxDepth {
			return false
		}
		s.i++
		s.space()
		if s.take(']') {
			return true
		}
		for {
			s.space()
			if !s.skip(depth + 1) {
				return false
			}
			s.space()
			if s.take(']') {
				return true
			}
			if !s.take(',') {
				return false
			}
		}
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) literal(word string) bool {
	for i := range len(word) {
		if !s.take(word[i]) {
			return false
		}
	}
	return true
}

func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// plain marks the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

// str passes over a string and returns what is between its quotes, as written.
func (s *scanner) str() (raw []byte, ok bool) {
	if !s.take('"') {
		return nil, false
	}
	b, i := s.b, s.i
	start := i
	for i < len(b) {
		c := b[i]
		if plain[c] {
			i++
			continue
		}
		if c == '"' {
			s.i = i + 1
			return b[start:i], true
		}
		n := 0
		if c == '\\' {
			n = escape(b[i:])
		}
		if n == 0 { // a control character, or an escape that is none
			s.i = i
			return nil, false
		}
		i += n
	}
	s.i = i
	return nil, false
}

// escape measures the escape that b begins with; 0 means that it is none.
func escape(b []byte) int {
	if len(b) < 2 || b[0] != '\\' {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote passes over a string and appends what it means to out. As in
// encoding/json, a lone surrogate and a byte that is not UTF-8 become U+FFFD.
func (s *scanner) unquote(out []byte) ([]byte, bool) {
	if !s.take('"') {
		return out, false
	}
	var n int
	out, n = unquoteInto(out, s.b[s.i:], -1)
	s.i += n
	return out, s.take('"')
}

// unquotePrefix appends what the beginning of a string means to out, which grows
// no further than its capacity, or as far as the string is well formed.
func unquotePrefix(out, b []byte) []byte {
	out, _ = unquoteInto(out, b, cap(out)-utf8.UTFMax)
	return out
}

// unquoteInto decodes b up to the closing quote, to the first byte that does not
// belong in a string, or to where out has reached limit (-1 = none), and returns
// how much of b that was.
func unquoteInto(out, b []byte, limit int) ([]byte, int) {
	i := 0
	for i < len(b) && (limit < 0 || len(out) < limit) {
		start := i
		end := len(b)
		if limit >= 0 {
			end = min(end, i+limit-len(out))
		}
		for i < end && plain[b[i]] && b[i] < utf8.RuneSelf {
			i++
		}
		out = append(out, b[start:i]...)
		if i >= end {
			continue
		}
		switch c := b[i]; {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(b[i:])
			out = utf8.AppendRune(out, r) // RuneError where it is not UTF-8
			i += n
		case c == '\\':
			n := escape(b[i:])
			switch {
			case n == 0:
				return out, i
			case n == 6:
				r, _ := hex4(b[i+2:])
				if utf16.IsSurrogate(r) {
					var low rune
					if escape(b[i+6:]) == 6 {
						low, _ = hex4(b[i+8:])
					}
					if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
						n += 6
					}
				}
				out = utf8.AppendRune(out, r)
			default:
				out = append(out, unescaped[b[i+1]])
			}
			i += n
		default: // the closing quote, or a control character
			return out, i
		}
	}
	return out, i
}

var unescaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}
