package api

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// BodyOf finds the object under a name in a request's body, and says no as the
// JSON schemas of Nova and Cinder do. allowed are the keys it may have; nil is
// any.
func (q *Request) BodyOf(name string, allowed []string, required ...string) (map[string]json.RawMessage, Answer) {
	if len(q.Body) == 0 {
		// A body that is not there is an error nobody caught, in Cinder.
		return nil, Fail(500, "The server has either erred or is incapable of performing the requested operation.")
	}
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(q.Body, &outer); err != nil {
		return nil, Fail(400, "Malformed request body")
	}
	raw, ok := outer[name]
	if !ok {
		return nil, Fail(400, "'%s' is a required property", name)
	}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(raw, &in); err != nil || in == nil {
		return nil, Fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not of type 'object'", name,
			Python(raw), Python(raw))
	}
	for _, k := range required {
		if _, ok := in[k]; !ok {
			return nil, Fail(400, "Invalid input for field/attribute %s. Value: %s. '%s' is a required property",
				name, Python(raw), k)
		}
	}
	if allowed != nil {
		var extra []string
		for _, k := range keysInOrder(raw) {
			if !slices.Contains(allowed, k) {
				extra = append(extra, "'"+k+"'")
			}
		}
		if len(extra) > 0 {
			was := "was"
			if len(extra) > 1 {
				was = "were"
			}
			return nil, Fail(400, "Invalid input for field/attribute %s. Value: %s. Additional properties are not "+
				"allowed (%s %s unexpected)",
				name, Python(raw), strings.Join(extra, ", "), was)
		}
	}
	return in, Answer{}
}

// Text reads a string of at most 255 characters; null is "".
func Text(in map[string]json.RawMessage, name string) (string, Answer) {
	raw, ok := in[name]
	if !ok || string(raw) == "null" {
		return "", Answer{}
	}
	var v string
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", Fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not of type 'string'", name,
			Python(raw), Python(raw))
	}
	if len([]rune(v)) > 255 {
		return "", Fail(400, "Invalid input for field/attribute %s. Value: %s. %s is too long", name, v, Python(raw))
	}
	return v, Answer{}
}

var booleans = []string{"True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t",
	"False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"}

// Boolean reads what OpenStack takes for one.
func Boolean(in map[string]json.RawMessage, name string) (bool, Answer) {
	raw, ok := in[name]
	if !ok {
		return false, Answer{}
	}
	var b bool
	if err := json.Unmarshal(raw, &b); err == nil {
		return b, Answer{}
	}
	var v string
	if err := json.Unmarshal(raw, &v); err == nil {
		if i := slices.Index(booleans, v); i >= 0 {
			return i < 12, Answer{}
		}
	}
	return false, Fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not one of [True, 'True', "+
		"'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', 'y', 't', False, 'False', 'FALSE', 'false', "+
		"'0', 'OFF', 'Off', 'off', 'NO', 'No', 'no', 'n', 'f']",
		name, Bare(raw), Python(raw))
}

var (
	isUUID      = regexp.MustCompile(`^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$`)
	metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`)
)

// UUIDIn reads an id; "" if it is not there.
func UUIDIn(in map[string]json.RawMessage, name string) (string, Answer) {
	v, a := Text(in, name)
	if a.Status != 0 || v == "" {
		return "", a
	}
	if !isUUID.MatchString(v) {
		return "", Fail(400, "Invalid input for field/attribute %s. Value: %s. '%s' is not a 'uuid'", name, v, v)
	}
	return v, Answer{}
}

// metadata reads an object of strings. null is none. Source: parameter_types.py
// of Nova (metadata) and Cinder (metadata_allows_null, extra_specs).
func MetadataIn(in map[string]json.RawMessage, name string) (map[string]string, Answer) {
	raw, ok := in[name]
	if !ok || string(raw) == "null" {
		return nil, Answer{}
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, Fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not of type 'object'", name,
			Python(raw), Python(raw))
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if !metadataKey.MatchString(k) {
			return nil, Fail(400, "Invalid input for field/attribute %s. Value: %s. '%s' does not match any of the "+
				"regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'", name, Python(raw), k)
		}
		value, a := Text(map[string]json.RawMessage{k: v}, k)
		if a.Status != 0 {
			return nil, a
		}
		if string(v) == "null" {
			return nil, Fail(400, "Invalid input for field/attribute %s. Value: None. None is not of type 'string'", k)
		}
		out[k] = value
	}
	return out, Answer{}
}

// keysInOrder are the keys of a JSON object as written.
func keysInOrder(raw []byte) []string {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.Token() //nolint:errcheck // it has been decoded before
	var out []string
	for d.More() {
		k, err := d.Token()
		if err != nil {
			break
		}
		out = append(out, k.(string))
		var skip json.RawMessage
		if d.Decode(&skip) != nil {
			break
		}
	}
	return out
}

// Bare is a JSON value as Python prints it, a string without quotes.
func Bare(raw []byte) string {
	var v string
	if json.Unmarshal(raw, &v) == nil {
		return v
	}
	return Python(raw)
}
