package simcloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// bodyOf finds the object under a name in a request's body, and says no as the
// JSON schemas of Nova and Cinder do. allowed are the keys it may have; nil is
// any.
func (q *request) bodyOf(name string, allowed []string, required ...string) (map[string]json.RawMessage, answer) {
	if len(q.body) == 0 {
		// A body that is not there is an error nobody caught, in Cinder.
		return nil, fail(500, "The server has either erred or is incapable of performing the requested operation.")
	}
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(q.body, &outer); err != nil {
		return nil, fail(400, "Malformed request body")
	}
	raw, ok := outer[name]
	if !ok {
		return nil, fail(400, "'%s' is a required property", name)
	}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(raw, &in); err != nil || in == nil {
		return nil, fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not of type 'object'", name, python(raw), python(raw))
	}
	for _, k := range required {
		if _, ok := in[k]; !ok {
			return nil, fail(400, "Invalid input for field/attribute %s. Value: %s. '%s' is a required property", name, python(raw), k)
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
			return nil, fail(400, "Invalid input for field/attribute %s. Value: %s. Additional properties are not allowed (%s %s unexpected)",
				name, python(raw), strings.Join(extra, ", "), was)
		}
	}
	return in, answer{}
}

// text reads a string of at most 255 characters; null is "".
func text(in map[string]json.RawMessage, name string) (string, answer) {
	raw, ok := in[name]
	if !ok || string(raw) == "null" {
		return "", answer{}
	}
	var v string
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not of type 'string'", name, python(raw), python(raw))
	}
	if len([]rune(v)) > 255 {
		return "", fail(400, "Invalid input for field/attribute %s. Value: %s. %s is too long", name, v, python(raw))
	}
	return v, answer{}
}

var booleans = []string{"True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t",
	"False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"}

// boolean reads what OpenStack takes for one.
func boolean(in map[string]json.RawMessage, name string) (bool, answer) {
	raw, ok := in[name]
	if !ok {
		return false, answer{}
	}
	var b bool
	if err := json.Unmarshal(raw, &b); err == nil {
		return b, answer{}
	}
	var v string
	if err := json.Unmarshal(raw, &v); err == nil {
		if i := slices.Index(booleans, v); i >= 0 {
			return i < 12, answer{}
		}
	}
	return false, fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not one of [True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', 'y', 't', False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no', 'n', 'f']",
		name, bare(raw), python(raw))
}

var (
	isUUID      = regexp.MustCompile(`^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$`)
	metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`)
)

func uuidIn(in map[string]json.RawMessage, name string) (string, answer) {
	v, a := text(in, name)
	if a.status != 0 || v == "" {
		return "", a
	}
	if !isUUID.MatchString(v) {
		return "", fail(400, "Invalid input for field/attribute %s. Value: %s. '%s' is not a 'uuid'", name, v, v)
	}
	return v, answer{}
}

// metadata reads an object of strings. null is none. Source: parameter_types.py
// of Nova (metadata) and Cinder (metadata_allows_null, extra_specs).
func metadataIn(in map[string]json.RawMessage, name string) (map[string]string, answer) {
	raw, ok := in[name]
	if !ok || string(raw) == "null" {
		return nil, answer{}
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fail(400, "Invalid input for field/attribute %s. Value: %s. %s is not of type 'object'", name, python(raw), python(raw))
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if !metadataKey.MatchString(k) {
			return nil, fail(400, "Invalid input for field/attribute %s. Value: %s. '%s' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'", name, python(raw), k)
		}
		value, a := text(map[string]json.RawMessage{k: v}, k)
		if a.status != 0 {
			return nil, a
		}
		if string(v) == "null" {
			return nil, fail(400, "Invalid input for field/attribute %s. Value: None. None is not of type 'string'", k)
		}
		out[k] = value
	}
	return out, answer{}
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

// bare is a JSON value as Python prints it, a string without quotes.
func bare(raw []byte) string {
	var v string
	if json.Unmarshal(raw, &v) == nil {
		return v
	}
	return python(raw)
}

// python is a JSON value as Python's repr has it, for messages.
func python(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0:
		return ""
	case raw[0] == '{':
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			return "{}"
		}
		var parts []string
		for _, k := range keysInOrder(raw) {
			parts = append(parts, "'"+k+"': "+python(m[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case raw[0] == '[':
		var l []json.RawMessage
		if json.Unmarshal(raw, &l) != nil {
			return "[]"
		}
		var parts []string
		for _, v := range l {
			parts = append(parts, python(v))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case raw[0] == '"':
		var v string
		if json.Unmarshal(raw, &v) != nil {
			return "''"
		}
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			return `"` + v + `"`
		}
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(v) + "'"
	}
	switch string(raw) {
	case "true":
		return "True"
	case "false":
		return "False"
	case "null":
		return "None"
	}
	return fmt.Sprint(string(raw))
}
