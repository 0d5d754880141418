package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Python is a JSON value as Python's repr has it, for messages.
func Python(raw []byte) string {
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
			parts = append(parts, "'"+k+"': "+Python(m[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case raw[0] == '[':
		var l []json.RawMessage
		if json.Unmarshal(raw, &l) != nil {
			return "[]"
		}
		var parts []string
		for _, v := range l {
			parts = append(parts, Python(v))
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
