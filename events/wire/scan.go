// Package wire reads what OpenStack's services put on the wire, for the packages
// that know which service means what by it: JSON, ids and metadata.
//
// Most notifications tell nothing new, and telling so must be cheap. Therefore
// the documents are scanned in place, each byte once, and nothing is built but
// the few values that are asked for. Fuzz tests hold the scanner against
// encoding/json.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// A Scanner walks over one JSON document. It accepts exactly what encoding/json
// accepts; keys count as they are written, capitals and all.
//
//	s := wire.Scan(doc)
//	for s.Object(); s.Next(); {
//		switch string(s.Key) {
//		case "event_type":
//			eventType = s.Value()
//		default:
//			s.Skip()
//		}
//	}
//	err := s.End()
//
// Each value must be taken by one of its methods before the next. After a byte
// that it does not expect it stays there: all methods answer false or nothing,
// and [Scanner.End] tells where.
type Scanner struct {
	// Key is what the key of the value that follows means, valid until the next
	// [Scanner.Next].
	Key []byte

	b     []byte
	i     int
	depth int
	fresh bool // nothing of the innermost object or list has been taken
	bad   bool
}

// MaxDepth is how deep objects and lists may be nested: encoding/json's limit.
const MaxDepth = 10_000

// Scan begins a document. It aliases doc, as all that it returns does.
func Scan(doc []byte) Scanner {
	s := Scanner{b: doc}
	s.space()
	return s
}

// Is says whether the value that follows begins with c.
func (s *Scanner) Is(c byte) bool { return !s.bad && s.i < len(s.b) && s.b[s.i] == c }

// Object enters the object that follows; its members come with [Scanner.Next].
func (s *Scanner) Object() bool { return s.enter('{') }

// List enters the list that follows; its elements come with [Scanner.Element].
func (s *Scanner) List() bool { return s.enter('[') }

func (s *Scanner) enter(c byte) bool {
	if s.bad || s.depth >= MaxDepth || !s.take(c) {
		s.bad = true
		return false
	}
	s.depth++
	s.fresh = true
	return true
}

// Next goes to the next member of the object: its key is in Key, and its value
// follows. false means that the object is over, or is none.
func (s *Scanner) Next() bool {
	if !s.more('}') {
		return false
	}
	start := s.i
	raw, ok := s.str()
	if ok && plain(raw, true) < len(raw) {
		s.i = start
		raw, ok = s.unquote(nil)
	}
	if ok {
		s.space()
		ok = s.take(':')
		s.space()
	}
	s.Key, s.bad = raw, !ok
	return ok
}

// Element goes to the next element of the list. false means that the list is
// over, or is none.
func (s *Scanner) Element() bool { return s.more(']') }

// more takes the comma before the next member or element, or the end.
func (s *Scanner) more(end byte) bool {
	if s.bad {
		return false
	}
	fresh := s.fresh
	s.fresh = false
	s.space()
	if s.take(end) {
		s.depth--
		return false
	}
	if !fresh {
		if !s.take(',') {
			s.bad = true
			return false
		}
		s.space()
	}
	return true
}

// Skip passes over the value that follows.
func (s *Scanner) Skip() {
	if !s.bad && !s.skip(s.depth) {
		s.bad = true
	}
}

// Value takes the value that follows as it was written.
func (s *Scanner) Value() Value {
	start := s.i
	s.Skip()
	if s.bad {
		return nil
	}
	return s.b[start:s.i:s.i]
}

// Unquote takes the string that follows and appends what it means to out. As in
// encoding/json, a lone surrogate and a byte that is not UTF-8 become U+FFFD.
func (s *Scanner) Unquote(out []byte) ([]byte, bool) {
	if s.bad {
		return out, false
	}
	out, ok := s.unquote(out)
	s.bad = !ok
	return out, ok
}

// UnquotePrefix appends what the beginning of the string that follows means to
// out, which grows no further than its capacity, or as far as the string is well
// formed. It takes nothing.
func (s *Scanner) UnquotePrefix(out []byte) []byte {
	if s.Is('"') {
		out, _ = unquoteInto(out, s.b[s.i+1:], cap(out)-utf8.UTFMax)
	}
	return out
}

// End says what is wrong with the document: nil if it was read to its end and
// nothing but white space is left. The error tells sizes and offsets, never the
// document.
func (s *Scanner) End() error {
	if !s.bad {
		s.space()
	}
	switch {
	case !s.bad && s.depth == 0 && s.i == len(s.b):
		return nil
	case s.i >= len(s.b):
		return fmt.Errorf("JSON that ends too early, after %d bytes", len(s.b))
	case !s.bad && s.depth > 0:
		return errors.New("not read to its end")
	}
	return fmt.Errorf("not JSON at byte %d of %d", s.i, len(s.b))
}

func (s *Scanner) space() {
	if s.i < len(s.b) && s.b[s.i] <= ' ' { // small enough to be inlined
		s.spaces()
	}
}

func (s *Scanner) spaces() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *Scanner) take(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// skip passes over one value; depth is that of the container it is in. false
// leaves i at the byte that was not expected.
func (s *Scanner) skip(depth int) bool {
	if s.i >= len(s.b) {
		return false
	}
	switch c := s.b[s.i]; {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{':
		if depth >= MaxDepth {
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
		if depth >= MaxDepth {
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

func (s *Scanner) literal(word string) bool {
	for i := range len(word) {
		if !s.take(word[i]) {
			return false
		}
	}
	return true
}

func (s *Scanner) number() bool {
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

func (s *Scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// plain measures how many bytes at the beginning of b stand for themselves in a
// string, whatever their encoding, and if ascii is set, only those of ASCII. It
// looks at eight at a time: almost all of a document is strings.
func plain(b []byte, ascii bool) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	var others uint64
	if ascii {
		others = high
	}
	i := 0
	for ; i+8 <= len(b); i += 8 {
		// A byte's high bit is set in odd if it is below ' ', a quote or a backslash;
		// what a borrow sets as well stands above the first true one.
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^('"'*each), x^('\\'*each)
		odd := ((x-' '*each)&^x | (quote-each)&^quote | (slash-each)&^slash | x&others) & high
		if odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || ascii && c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// str passes over a string and returns what is between its quotes, as written.
func (s *Scanner) str() (raw []byte, ok bool) {
	if !s.take('"') {
		return nil, false
	}
	b, i := s.b, s.i
	start := i
	for {
		i += plain(b[i:], false)
		if i >= len(b) {
			break
		}
		if b[i] == '"' {
			s.i = i + 1
			return b[start:i], true
		}
		n := escape(b[i:])
		if n == 0 { // a control character, or an escape that is none
			break
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

func (s *Scanner) unquote(out []byte) ([]byte, bool) {
	if !s.take('"') {
		return out, false
	}
	out, n := unquoteInto(out, s.b[s.i:], -1)
	s.i += n
	return out, s.take('"')
}

// unquoteInto decodes b up to the closing quote, to the first byte that does not
// belong in a string, or to where out has reached limit (-1 = none), and returns
// how much of b that was.
func unquoteInto(out, b []byte, limit int) ([]byte, int) {
	i := 0
	for i < len(b) && (limit < 0 || len(out) < limit) {
		end := len(b)
		if limit >= 0 {
			end = min(end, i+limit-len(out))
		}
		n := plain(b[i:end], true)
		out = append(out, b[i:i+n]...)
		if i += n; i >= end {
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
