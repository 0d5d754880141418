package cloudevents

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"staffeln/events"
	"staffeln/events/oslo"
)

// The types of Knative's sources that are read in a way of their own.
const (
	// typeRabbitMQ is what the RabbitMQ source sends for every message; the body is
	// the message's (knative-extensions/eventing-rabbitmq, pkg/apis/sources).
	typeRabbitMQ = "dev.knative.rabbitmq.event"
	// typePing is what a PingSource sends, Knative's cron (knative/eventing,
	// pkg/apis/sources/v1/ping_types.go).
	typePing = "dev.knative.sources.ping"
)

const tickPrefix = "tick."

// A message is a CloudEvent, whatever it came as.
type message struct {
	specVersion, eventType, id, at string
	data                           []byte
}

// read makes events of a request: one, or as many as there are shards.
func (s *server) read(h http.Header, body []byte) ([]events.Event, error) {
	// A content type that is missing or makes no sense is none: the headers decide.
	contentType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	var m message
	var err error
	switch {
	case contentType == "application/cloudevents+json":
		m, err = structured(body)
	case strings.HasPrefix(contentType, "application/cloudevents"):
		err = fmt.Errorf("cloudevents: %.60q is not read: want application/cloudevents+json or Ce- headers", contentType)
	case h.Get("Ce-Specversion") != "" || h.Get("Ce-Type") != "":
		m = message{
			specVersion: header(h, "Ce-Specversion"), eventType: header(h, "Ce-Type"),
			id: header(h, "Ce-Id"), at: header(h, "Ce-Time"), data: body,
		}
	default:
		e, err := oslo.Decode(body)
		return []events.Event{e.Heard(s.o.Now())}, err
	}
	if err != nil {
		return nil, err
	}
	return s.translate(m)
}

// structured reads the JSON format of CloudEvents 1.0.
func structured(body []byte) (message, error) {
	var doc struct {
		SpecVersion     string          `json:"specversion"`
		Type            string          `json:"type"`
		ID              string          `json:"id"`
		Time            string          `json:"time"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
		DataBase64      *string         `json:"data_base64"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		// encoding/json's errors may quote what they do not like.
		return message{}, errors.New("cloudevents: not a JSON document with a CloudEvent's attributes")
	}
	if string(doc.Data) == "null" && doc.DataBase64 != nil {
		doc.Data = nil // some senders write both members, and null in the one they do not use
	}
	m := message{specVersion: doc.SpecVersion, eventType: doc.Type, id: doc.ID, at: doc.Time, data: doc.Data}
	switch {
	case doc.DataBase64 != nil && doc.Data != nil:
		return message{}, errors.New("cloudevents: both data and data_base64")
	case doc.DataBase64 != nil:
		data, err := base64.StdEncoding.DecodeString(*doc.DataBase64)
		if err != nil {
			return message{}, errors.New("cloudevents: data_base64 is not base64")
		}
		m.data = data
	case len(doc.Data) > 0 && doc.Data[0] == '"' && !isJSON(doc.DataContentType):
		// Data of another type than JSON stands in a string.
		var text string
		if err := json.Unmarshal(doc.Data, &text); err != nil {
			return message{}, errors.New("cloudevents: data is not a string")
		}
		m.data = []byte(text)
	}
	return m, nil
}

// isJSON says whether a datacontenttype is JSON's, as it is when there is none.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(t, "/json") || strings.HasSuffix(t, "+json"))
}

// translate makes events of a message.
func (s *server) translate(m message) ([]events.Event, error) {
	switch {
	case m.specVersion != "1" && !strings.HasPrefix(m.specVersion, "1."):
		return nil, fmt.Errorf("cloudevents: specversion %.20q: want 1.0", m.specVersion)
	case m.eventType == "" || len(m.eventType) > maxName:
		return nil, fmt.Errorf("cloudevents: a type of %d bytes: want 1 to %d", len(m.eventType), maxName)
	case m.id == "" || len(m.id) > maxName:
		return nil, fmt.Errorf("cloudevents: an id of %d bytes: want 1 to %d", len(m.id), maxName)
	}
	at := s.o.Now().UTC()
	if m.at != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, m.at); err != nil {
			return nil, fmt.Errorf("cloudevents: time %.40q: want RFC 3339", m.at)
		}
		at = at.UTC()
	}
	if m.eventType == typeRabbitMQ {
		e, err := oslo.Decode(m.data)
		if err != nil {
			return nil, err
		}
		return []events.Event{e.Heard(s.o.Now())}, nil
	}
	if m.eventType == typePing || events.IsTick(m.eventType) {
		if err := s.punctual(at); err != nil {
			return nil, err
		}
	}
	if m.eventType == typePing {
		var ping struct {
			Tick  string `json:"tick"`
			Shard *int   `json:"shard"`
		}
		if err := json.Unmarshal(m.data, &ping); err != nil || ping.Tick == "" || len(ping.Tick) > maxName {
			return nil, errors.New(`cloudevents: the data of a ping: want {"tick": "NAME"}`)
		}
		if ping.Shard == nil {
			return s.allShards(ping.Tick, at), nil
		}
		if *ping.Shard < 0 || *ping.Shard >= s.o.Shards {
			return nil, fmt.Errorf("cloudevents: a ping for shard %d of %d", *ping.Shard, s.o.Shards)
		}
		return []events.Event{events.NewTick(ping.Tick, *ping.Shard, at.Truncate(time.Second))}, nil
	}
	e := events.Event{ID: m.id, Type: m.eventType, At: at}
	if name, ok := strings.CutPrefix(m.eventType, tickPrefix); ok && name != "" {
		if _, err := events.DecodeTick(e); err != nil {
			return s.allShards(name, at), nil
		}
	}
	if len(m.data) > 0 {
		if !json.Valid(m.data) {
			return nil, fmt.Errorf("cloudevents: %d bytes of data that are not JSON", len(m.data))
		}
		e.Data = m.data
	}
	if events.IsTick(e.Type) {
		return []events.Event{e}, nil // a little ahead, it is two clocks; and its time is its name
	}
	return []events.Event{e.Heard(s.o.Now())}, nil
}

// punctual says what is wrong with the time of a tick.
func (s *server) punctual(at time.Time) error {
	now := s.o.Now()
	switch {
	case at.Sub(now) > s.o.Ahead:
		return fmt.Errorf("cloudevents: a tick of %s, more than %s ahead of the clock here", at.Format(time.RFC3339), s.o.Ahead)
	case now.Sub(at) > s.o.Late:
		return fmt.Errorf("cloudevents: a tick of %s, more than %s ago by the clock here", at.Format(time.RFC3339), s.o.Late)
	}
	return nil
}

// allShards are the ticks of one moment. A cron source is seldom on time to the
// nanosecond, and a tick's id knows seconds only.
func (s *server) allShards(name string, at time.Time) []events.Event {
	ticks := make([]events.Event, s.o.Shards)
	for shard := range ticks {
		ticks[shard] = events.NewTick(name, shard, at.Truncate(time.Second))
	}
	return ticks
}

// maxName bounds ids and types, in bytes, as oslo's are.
const maxName = 255

// header reads an attribute: percent-encoded, and in quotes if the sender keeps to
// an older text (CloudEvents HTTP binding 1.0.2, 3.1.3.2). What is not well encoded
// is taken as it is, since not every sender encodes.
func header(h http.Header, name string) string {
	v := h.Get(name)
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(v[1 : len(v)-1])
	}
	if plain, err := url.PathUnescape(v); err == nil {
		return plain
	}
	return v
}

// encode writes an attribute for a header.
func encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
