// Package oslo reads and writes oslo.messaging notifications as they are on the
// wire.
//
// The 2.0 envelope is a JSON document whose "oslo.message" holds the
// notification as another JSON document inside a string; the bare form of old
// releases is the notification alone (oslo_messaging/_drivers/common.py,
// serialize_msg and deserialize_msg). Of a notification, only what an
// [events.Event] has is taken: the context beside the payload can hold a user's
// token, and is neither kept nor named in an error.
//
// Every notification of the cloud passes here and most have no taker: [Peek] reads
// as little as it can, and [Decode] each byte once for each of the two documents. A
// fuzz test holds both against encoding/json.
package oslo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"staffeln/events"
	"staffeln/events/wire"
)

// MaxSize is the most a message body may measure, in bytes. The largest
// notifications known (Nova's compute_task with a scheduler's hints, Cinder's
// createprogress) are some hundred kilobytes.
const MaxSize = 16 << 20

// maxName bounds a message id and an event type, in bytes: both reach logs,
// keys and labels.
const maxName = 255

// Decode reads one message body. It returns an error for a body over [MaxSize],
// for anything that is not valid JSON, and for a notification without a
// message_id, an event_type or a timestamp, or with ones that hold other than
// printable ASCII or more than 255 bytes. Errors tell sizes and offsets, never
// the body.
//
// A notification of the type of a tick is refused, too. Ticks are our own timers' and
// their time is believed; whoever may publish on the broker is not one of them.
//
// The event's Data is a copy of the payload as it was written, nil where there is
// none; nothing of it aliases body.
func Decode(body []byte) (events.Event, error) {
	if len(body) > MaxSize {
		return events.Event{}, fmt.Errorf("oslo: %d bytes, at most %d are read", len(body), MaxSize)
	}
	buf := scratch.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxScratch {
			scratch.Put(buf)
		}
	}()

	inner, wrapped, err := unwrap(body, (*buf)[:0])
	if err != nil {
		return events.Event{}, fmt.Errorf("oslo: envelope: %w", err)
	}
	if wrapped {
		*buf = inner[:0]
	} else {
		inner = body
	}
	n, err := readNotification(inner)
	if err != nil {
		return events.Event{}, fmt.Errorf("oslo: notification: %w", err)
	}
	at, ok := parseTime(n.timestamp)
	if !ok {
		return events.Event{}, fmt.Errorf("oslo: a timestamp of %d bytes that is no known form of a time", len(n.timestamp))
	}
	return events.Event{ID: n.id, Type: n.eventType, At: at, Data: bytes.Clone(n.payload)}, nil
}

// maxScratch is the largest buffer that is kept for the next message.
const maxScratch = 256 << 10

var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 8*peekSize); return &b }}

// parseTime reads the forms of a timestamp. oslo writes str(utcnow()):
// "2006-01-02 15:04:05.000000" in UTC without a zone, and without the fraction
// when that happens to be zero. Other publishers write ISO 8601.
func parseTime(s string) (time.Time, bool) {
	if len(s) > len("2006-01-02T15:04:05.000000000+00:00") {
		return time.Time{}, false
	}
	for _, layout := range [...]string{
		"2006-01-02 15:04:05", // a fraction is taken wherever one follows the seconds
		"2006-01-02T15:04:05Z07:00",
		"2006-01-02T15:04:05",
		"2006-01-02 15:04:05Z07:00",
		"2006-01-02T15:04:05Z0700",
	} {
		if at, err := time.Parse(layout, s); err == nil {
			at = at.UTC()
			return at, at.Year() >= 0 && at.Year() <= 9999 // a zone can carry it beyond what can be written again
		}
	}
	return time.Time{}, false
}

// Encode writes an event as a notification in the 2.0 envelope, as oslo's
// publisher would: for the simulated cloud and for synthetic events. publisher is
// the publisher_id ("compute.host-1").
//
// Data must be valid JSON in UTF-8; without Data there is no payload. At is
// written in UTC to the microsecond. Under these conditions [Decode] gives back
// the same event.
func Encode(e events.Event, publisher string) []byte {
	inner := make([]byte, 0, len(e.Data)+256)
	inner = append(inner, `{"message_id": `...)
	inner = appendJSON(inner, e.ID)
	inner = append(inner, `, "publisher_id": `...)
	inner = appendJSON(inner, publisher)
	inner = append(inner, `, "event_type": `...)
	inner = appendJSON(inner, e.Type)
	inner = append(inner, `, "priority": "INFO"`...)
	if len(e.Data) > 0 {
		inner = append(inner, `, "payload": `...)
		inner = append(inner, e.Data...)
	}
	inner = append(inner, `, "timestamp": "`...)
	inner = e.At.UTC().AppendFormat(inner, "2006-01-02 15:04:05.000000")
	inner = append(inner, `"}`...)

	body := make([]byte, 0, len(inner)+len(inner)/4+64)
	body = append(body, `{"oslo.version": "2.0", "oslo.message": `...)
	body = appendJSON(body, string(inner))
	return append(body, '}')
}

func appendJSON(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("a string that does not marshal: " + err.Error()) // cannot happen
	}
	return append(b, quoted...)
}

// Peek tells the event type of a message in the 2.0 envelope at a fraction of the
// price of [Decode]: oslo writes the type before the payload, and Peek stops
// there. What follows is not looked at, so a type from Peek is enough to put a
// message aside for which there is no taker, and no proof that the message can
// be decoded. false means that only Decode can tell.
func Peek(body []byte) (eventType string, ok bool) {
	s := wire.Scan(body)
	for s.Object(); s.Next(); {
		if string(s.Key) != messageKey {
			s.Skip()
			continue
		}
		buf := scratch.Get().(*[]byte)
		defer scratch.Put(buf)
		for _, size := range [...]int{peekSize / 4, peekSize} {
			if eventType, ok := peekType(s.UnquotePrefix((*buf)[:0:size])); ok {
				return eventType, true
			}
		}
		break
	}
	return "", false
}

// peekSize is how much of a notification is looked at for its type, in bytes: in
// oslo's order only message_id and publisher_id stand before it, so that mostly
// the first quarter will do.
const peekSize = 1 << 10

func peekType(beginning []byte) (string, bool) {
	s := wire.Scan(beginning)
	for s.Object(); s.Next(); {
		if string(s.Key) == "event_type" {
			eventType, ok := s.Value().Text()
			return eventType, ok && validName(eventType)
		}
		s.Skip()
	}
	return "", false
}

const messageKey = "oslo.message"

// unwrap finds "oslo.message" in the envelope and appends what the string holds
// to buf; the last one counts, as everywhere in JSON.
func unwrap(body, buf []byte) (inner []byte, wrapped bool, err error) {
	s := wire.Scan(body)
	inner = buf
	for s.Object(); s.Next(); {
		switch {
		case string(s.Key) != messageKey:
			s.Skip()
		case s.Is('"'):
			inner, wrapped = s.Unquote(inner[:0])
		default:
			wrapped = false
			if !s.Value().IsNull() {
				return nil, false, errors.New(messageKey + " is not a string")
			}
		}
	}
	return inner, wrapped, s.End()
}

type notification struct {
	id, eventType, timestamp string
	payload                  []byte // aliases what it was read from
}

func readNotification(b []byte) (notification, error) {
	var id, eventType, timestamp wire.Value
	var n notification
	s := wire.Scan(b)
	for s.Object(); s.Next(); {
		switch string(s.Key) {
		case "message_id":
			id = s.Value()
		case "event_type":
			eventType = s.Value()
		case "timestamp":
			timestamp = s.Value()
		case "payload":
			n.payload = s.Value()
		default:
			s.Skip()
		}
	}
	if err := s.End(); err != nil {
		return notification{}, err
	}
	var ok bool
	if n.id, ok = id.Text(); !ok || !validName(n.id) {
		return notification{}, errors.New("no message_id that could be one")
	}
	if n.eventType, ok = eventType.Text(); !ok || !validName(n.eventType) {
		return notification{}, errors.New("no event_type that could be one")
	}
	if events.IsTick(n.eventType) {
		return notification{}, errors.New("the event_type of a tick, which no service sends")
	}
	if n.timestamp, ok = timestamp.Text(); !ok {
		return notification{}, errors.New("no timestamp")
	}
	return n, nil
}

// validName says whether a message id or event type is 1 to 255 bytes of
// printable ASCII without spaces.
func validName(s string) bool {
	if len(s) == 0 || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
