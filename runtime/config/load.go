package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"staffeln/functions/backup"
)

// A Complaint is one thing that is wrong with one variable.
type Complaint struct {
	// Variable is its full name.
	Variable string
	// Value is what it was set to, masked where it may hold a password; "" where
	// the value is not what is wrong.
	Value string
	// Want says what is allowed, or what to do.
	Want string
}

func (c Complaint) String() string {
	if c.Value == "" {
		return c.Variable + ": " + c.Want
	}
	return fmt.Sprintf("%s=%.100q: %s", c.Variable, c.Value, c.Want)
}

// Complaints are everything that is wrong, by variable. It is the error of [Load].
type Complaints []Complaint

func (cs Complaints) Error() string {
	lines := make([]string, len(cs))
	for i, c := range cs {
		lines[i] = c.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads the settings from "NAME=value" pairs, as [os.Environ] gives them. A
// variable that is set but empty counts as not set. Names with another prefix than
// [Prefix] are not looked at; one with it that is no setting is a complaint. The
// error is a [Complaints], and the settings are then not to be used.
func Load(environ []string) (Config, error) {
	given := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, Prefix) && !fromKubernetes(name, value) {
			given[name] = strings.TrimSpace(value)
		}
	}
	l := loader{given: given, known: map[string]bool{}}

	var c Config
	l.read(&c, Prefix)
	c.Period = c.Period.In(c.TimeZone.Location())
	c.ReportPeriod = c.ReportPeriod.In(c.TimeZone.Location())
	l.check(c)
	c.Classes = l.classes(c.General())
	l.unknown()

	if len(l.complaints) > 0 {
		slices.SortStableFunc(l.complaints, func(a, b Complaint) int { return strings.Compare(a.Variable, b.Variable) })
		return Config{}, l.complaints
	}
	return c, nil
}

// fromKubernetes knows the variables that Kubernetes sets in every container for a
// service whose name begins with ours: STAFFELN_API_SERVICE_HOST,
// STAFFELN_API_PORT=tcp://..., STAFFELN_API_PORT_8808_TCP_ADDR. Nobody wrote
// those, so nobody is to be told of them.
func fromKubernetes(name, value string) bool {
	return kubernetesName.MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && kubernetesPort.MatchString(value)
}

var (
	kubernetesName = regexp.MustCompile(
		`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	kubernetesPort = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// A loader reads one environment and remembers what is wrong with it.
type loader struct {
	given      map[string]string
	known      map[string]bool // names of all settings, classes' included
	complaints Complaints
}

// read fills in the struct that into points to, and holds the values against their
// tags. What is not given stays as it was, or takes its default.
func (l *loader) read(into any, prefix string) {
	err := env.ParseWithOptions(into, env.Options{Environment: l.given, Prefix: prefix, FuncMap: parsers})
	failed := map[string]error{}
	if all, ok := err.(env.AggregateError); ok {
		for _, one := range all.Errors {
			parse, ok := one.(env.ParseError)
			if !ok {
				panic(one) // a mistake in a tag, not in a value
			}
			failed[parse.Name] = parse.Err
		}
	} else if err != nil {
		panic(err)
	}
	v := reflect.ValueOf(into).Elem()
	for _, f := range fields(v.Type()) {
		variable := prefix + f.Key
		l.known[variable] = true
		if l.given[variable] == "" {
			continue
		}
		want := ""
		if err := failed[f.Name]; err != nil {
			want = f.want(err)
		} else {
			want = f.outside(v.FieldByName(f.Name))
		}
		if want == "" {
			continue
		}
		value := l.given[variable]
		if f.Secret {
			value = f.mask(value)
		}
		l.complaints = append(l.complaints, Complaint{variable, value, want})
	}
	for f, value := range v.Fields() {
		if p := f.Tag.Get("prefix"); p != "" {
			l.read(value.Addr().Interface(), prefix+p)
		}
	}
}

// mask is what may be shown of a secret's value: of a URL what is no password.
func (f field) mask(value string) string {
	if f.Type == reflect.TypeFor[Secret]() {
		return Secret(value).String()
	}
	parts := split(value)
	for i, s := range parts {
		parts[i] = URL(s).String()
	}
	return strings.Join(parts, ",")
}

// parsers are for types whose own way to be read is not what is documented. The
// text of their errors goes into complaints.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[backup.Schedule](): func(s string) (any, error) { return backup.ParseSchedule(s) },
	reflect.TypeFor[backup.Blackouts](): func(s string) (any, error) {
		if strings.EqualFold(s, "none") {
			return backup.Blackouts(nil), nil
		}
		return backup.ParseBlackouts(s)
	},
	reflect.TypeFor[bool](): func(s string) (any, error) {
		switch strings.ToLower(s) {
		case "true", "yes", "on", "1":
			return true, nil
		case "false", "no", "off", "0":
			return false, nil
		}
		return nil, errPlain
	},
	reflect.TypeFor[int](): func(s string) (any, error) {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return nil, errPlain
		}
		return int(n), nil
	},
	reflect.TypeFor[time.Duration](): func(s string) (any, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return nil, errPlain
		}
		return d, nil
	},
}

type plainError struct{}

func (plainError) Error() string { return "not readable" }

// errPlain says that the field's own description is the best complaint.
var errPlain error = plainError{}

// A field is one setting, as its struct tags tell it.
type field struct {
	Name, Key, Default, Unit string
	Type                     reflect.Type
	Min, Max                 string
	OneOf                    []string
	Secret                   bool
	// Of is the setting that a class's field overrides.
	Of string
}

func fields(t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		key := f.Tag.Get("env")
		if key == "" || key == "-" {
			continue
		}
		out = append(out, field{
			Name: f.Name, Key: key, Default: f.Tag.Get("envDefault"), Unit: f.Tag.Get("unit"), Type: f.Type,
			Min: f.Tag.Get("min"), Max: f.Tag.Get("max"), OneOf: strings.Fields(f.Tag.Get("oneof")),
			Secret: f.Tag.Get("secret") == "true", Of: f.Tag.Get("of"),
		})
	}
	return out
}

// want is the complaint about a value that could not be read.
func (f field) want(err error) string {
	if err != errPlain && !f.Secret {
		return err.Error()
	}
	return f.allowed()
}

// allowed describes what a number, a duration or a word may be.
func (f field) allowed() string {
	what := f.Unit
	switch f.Type {
	case reflect.TypeFor[int]():
		what = "a whole number"
	case reflect.TypeFor[time.Duration]():
		what = "a duration such as 90s, 10m or 6h"
	case reflect.TypeFor[bool]():
		what = "true or false"
	}
	return "want " + what + f.bounds()
}

// bounds are those of a number or duration, in words that follow others.
func (f field) bounds() string {
	switch {
	case f.Min != "" && f.Max != "":
		return ", from " + f.Min + " to " + f.Max
	case f.Min != "":
		return ", at least " + f.Min
	}
	return ""
}

// outside is the complaint about a value out of bounds; "" where it is within.
func (f field) outside(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case int:
		least, err1 := strconv.Atoi(f.Min)
		most, err2 := strconv.Atoi(f.Max)
		if err1 == nil && value < least || err2 == nil && value > most {
			return f.allowed()
		}
	case time.Duration:
		least, err1 := time.ParseDuration(f.Min)
		most, err2 := time.ParseDuration(f.Max)
		if err1 == nil && value < least || err2 == nil && value > most {
			return f.allowed()
		}
	case string:
		if len(f.OneOf) > 0 && !slices.Contains(f.OneOf, value) {
			return f.allowed()
		}
	}
	return ""
}
