package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"staffeln/functions/backup"
)

// check is what the tags cannot say of the general settings.
func (l *loader) check(c Config) {
	l.checkKept("RETENTION_TIME", c.Retention)
	if l.sound("OVERRIDE_MAX_PERIOD") && c.OverrideMaxPeriod > 0 && c.OverrideMaxPeriod < c.OverrideMinPeriod {
		l.about("OVERRIDE_MAX_PERIOD", "want 0, or no less than "+Prefix+"OVERRIDE_MIN_PERIOD")
	}
	l.checkKeys(c)
	l.checkText("BACKUP_CONTAINER", c.Container)
	l.checkText("ARCHIVE_CONTAINER", c.ArchiveContainer)
	l.checkText("AMQP_QUEUE", c.AMQPQueue)
	if strings.HasPrefix(c.AMQPQueue, "amq.") {
		l.about("AMQP_QUEUE", "want a name that does not begin with amq., which is RabbitMQ's own")
	}
	if why := badTemplate(c.NameTemplate); why != "" {
		l.about("NAME_TEMPLATE", why)
	}
	for _, pair := range []struct {
		exclude  string
		in, from List
	}{
		{"EXCLUDE_PROJECTS", c.IncludeProjects, c.ExcludeProjects},
		{"EXCLUDE_DOMAINS", c.IncludeDomains, c.ExcludeDomains},
	} {
		for _, name := range pair.from {
			if slices.Contains(pair.in, name) {
				l.about(pair.exclude, fmt.Sprintf("%.60q is included as well: want it in one of the lists", name))
			}
		}
	}
	for key, every := range map[string]time.Duration{
		"RECONCILE_PERIOD": c.ReconcilePeriod, "BACKUPS_PERIOD": c.BackupsPeriod,
	} {
		if l.sound(key) && every%time.Second != 0 {
			l.about(key, "want whole seconds")
		}
	}

	if !severalRedis.MatchString(c.RedisURL.Reveal()) { // which have lists of hosts, and are read where they are opened
		l.checkURL("REDIS_URL", c.RedisURL, "redis", "rediss",
			"redis+cluster", "redis+sentinel", "rediss+cluster", "rediss+sentinel")
	}
	for _, u := range c.AMQPURLs {
		l.checkURL("AMQP_URLS", u, "amqp", "amqps")
	}
	l.checkURL("FUNCTION_URL", c.FunctionURL, "http", "https")
	if c.FunctionURL != "" && !strings.Contains(c.FunctionURL.Reveal(), "{function}") {
		l.about("FUNCTION_URL", "want {function} in it, for the function's name")
	}
	l.checkTLS(c)
	l.checkPolicy(c)
	l.checkReport(c)
	l.checkMail(c)
	l.checkAddress("LISTEN", c.Listen, "")
	if c.MetricsListen != Off {
		l.checkAddress("METRICS_LISTEN", c.MetricsListen, ", or off")
		if _, port, _ := net.SplitHostPort(c.Listen); c.Listen == c.MetricsListen && port != "0" {
			l.about("METRICS_LISTEN", "want another address than STAFFELN_LISTEN's")
		}
	}
	if c.Function != "" && !regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`).MatchString(c.Function) {
		l.about("FUNCTION", "want the name of a function, in lower-case letters")
	}
}

// checkClass is the same of a class; its settings begin with prefix.
func (l *loader) checkClass(prefix string, c Class) {
	l.checkKept(prefix+"RETENTION_TIME", c.Retention)
	l.checkText(prefix+"CONTAINER", c.Container)
	l.checkText(prefix+"ARCHIVE_CONTAINER", c.ArchiveContainer)
}

func (l *loader) checkKept(key string, retention backup.Age) {
	if l.given[Prefix+key] != "" && l.sound(key) && retention.IsZero() {
		l.about(key, "want a time such as 30d: nothing is kept for no time")
	}
}

// checkPolicy is about the policy check.
func (l *loader) checkPolicy(c Config) {
	for _, id := range c.PolicyUsers {
		if !userID.MatchString(id) {
			l.about("POLICY_USERS",
				fmt.Sprintf("%.60q is no user's id: want what `openstack user show -f value -c id` prints", id))
			break
		}
	}
	for _, role := range c.PolicyRoles {
		if len(role) > 255 || strings.ContainsFunc(role, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			l.about("POLICY_ROLES", "want names of roles, at most 255 bytes and no control characters")
			break
		}
	}
}

// userID is what Keystone has for the id of a user: 32 or 64 hexadecimal digits,
// or with an LDAP of old a name from there (backward_compatible_ids).
var userID = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)

var severalRedis = regexp.MustCompile(`^rediss?\+(cluster|sentinel)://.`)

// Off is the METRICS_LISTEN of a process that serves no metrics.
const Off = "off"

// sound says that nothing was complained of about the setting so far.
func (l *loader) sound(key string) bool {
	return !slices.ContainsFunc(l.complaints, func(c Complaint) bool { return c.Variable == Prefix+key })
}

// about complains of a setting, masking what may be secret. A value that is not
// given is the default's, of which there is nothing to say.
func (l *loader) about(key, want string) {
	value := l.given[Prefix+key]
	for _, f := range fields(reflect.TypeFor[Config]()) {
		if f.Key != key {
			continue
		}
		if f.Secret {
			value = f.mask(value)
		} else if value == "" {
			value = f.Default
		}
	}
	l.complaints = append(l.complaints, Complaint{Prefix + key, value, want})
}

// metadataKey is what Nova takes as a metadata key (nova/api/validation,
// parameter_types.py: metadata), without blanks at the ends.
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9_:.-]([a-zA-Z0-9_:. -]*[a-zA-Z0-9_:.-])?$`)

func (l *loader) checkKeys(c Config) {
	const want = "want letters, digits and - _ : . such as backup"
	used := map[string]string{}
	for _, k := range []struct {
		key, value string
		most       int
	}{
		// The opt-in key is a tag, too, with a class behind a colon: Nova takes 60 characters.
		{"VOLUME_FILTER_TAG", c.FilterTag, 60 - 1 - maxClassName},
		{"VOLUME_SKIP_TAG", c.SkipTag, 255},
		{"SCHEDULE_KEY", c.ScheduleKey, 255},
		{"RETENTION_KEY", c.RetentionKey, 255},
	} {
		switch other, twice := used[k.value]; {
		case !metadataKey.MatchString(k.value):
			l.about(k.key, want)
		case len(k.value) > k.most:
			l.about(k.key, fmt.Sprintf("want at most %d characters", k.most))
		case k.value == backup.StampKey: // a wish read from it would be our own
			l.about(k.key, "want another key than "+backup.StampKey+", which is written to servers")
		case twice && k.key != "VOLUME_SKIP_TAG" && other != "VOLUME_SKIP_TAG": // that one is a volume's
			l.about(k.key, "want another key than that of "+Prefix+other)
		}
		used[k.value] = k.key
	}
}

func (l *loader) checkText(key, value string) {
	if l.given[Prefix+key] == "" {
		return // a class's value may be the general one
	}
	if len(value) > 255 {
		l.about(key, "want at most 255 bytes")
	}
	odd := func(r rune) bool { return r < ' ' || r == 0x7f || r > 0xFFFF }
	if !utf8.ValidString(value) || strings.ContainsFunc(value, odd) {
		l.about(key, "want no control characters, nor any outside Unicode's basic plane, which OpenStack's databases refuse")
	}
}

// badTemplate is what is wrong with a NAME_TEMPLATE; "" for nothing.
func badTemplate(template string) string {
	if err := backup.CheckTemplate(template); err != nil {
		return err.Error()
	}
	if strings.ContainsFunc(template, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "want no control characters"
	}
	return ""
}

func (l *loader) checkURL(key string, u URL, schemes ...string) {
	if u == "" {
		return
	}
	p, err := url.Parse(strings.ReplaceAll(u.Reveal(), "{function}", "f"))
	switch {
	case err != nil || !slices.Contains(schemes, p.Scheme) || p.Hostname() == "":
		l.about(key, fmt.Sprintf("want %s://HOST[:PORT]/..., special characters of a password percent-encoded",
			strings.Join(schemes, ":// or ")))
	case p.Port() != "" && !isPort(p.Port()):
		l.about(key, "want a port from 1 to 65535")
	}
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func (l *loader) checkAddress(key, address, or string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || (port != "0" && !isPort(port)) || strings.ContainsAny(host, " /") {
		l.about(key, "want HOST:PORT"+or+", such as 127.0.0.1:8808, [::1]:8808 or :8808, the port a number")
	}
}

const (
	classPrefix  = Prefix + "CLASS_"
	maxClassName = 32
)

var className = regexp.MustCompile(`^[A-Z0-9]([A-Z0-9_]*[A-Z0-9])?$`)

// reserved are the values that already mean something in a server's metadata, and
// the name of the policy that the general settings make.
var reserved = []string{"yes", "true", "on", "1", "no", "false", "off", "0", backup.Default}

// classes reads the classes there are variables of.
func (l *loader) classes(general Class) map[string]Class {
	all := map[string]Class{}
	for _, variable := range slices.Sorted(maps.Keys(l.given)) {
		upper, ok := classOf(variable)
		if !ok {
			continue // no setting at all: see unknown
		}
		name := strings.ToLower(strings.ReplaceAll(upper, "_", "-"))
		switch _, done := all[name]; {
		case done:
			continue
		case !className.MatchString(upper) || len(name) > maxClassName:
			l.known[variable] = true
			l.complaints = append(l.complaints, Complaint{variable, "",
				fmt.Sprintf("want a class's name of upper-case letters, digits and _ within, at most %d: "+
					"%sGOLD_PERIOD is for backup=gold", maxClassName, classPrefix)})
			continue
		case slices.Contains(reserved, name):
			l.known[variable] = true
			l.complaints = append(l.complaints, Complaint{variable, "",
				fmt.Sprintf("want another name than %q for a class: as a value it has a meaning of its own (%s)",
					name, strings.Join(reserved, " "))})
			continue
		case misread(upper) != "":
			l.known[variable] = true
			l.complaints = append(l.complaints, Complaint{variable, "",
				fmt.Sprintf("want another name than %q for a class: its setting %s would be that of another class",
					name, classPrefix+misread(upper))})
			continue
		}
		prefix := classPrefix + upper + "_"
		c := general
		l.read(&c, prefix)
		c.Period = c.Period.In(c.TimeZone.Location())
		l.checkClass(strings.TrimPrefix(prefix, Prefix), c)
		all[name] = c
	}
	return all
}

// classOf takes the class's name out of a variable's.
func classOf(variable string) (upper string, ok bool) {
	rest, ok := strings.CutPrefix(variable, classPrefix)
	if !ok {
		return "", false
	}
	best := ""
	for _, f := range fields(reflect.TypeFor[Class]()) {
		// The longest counts, should one field's name ever end another's.
		if before, ok := strings.CutSuffix(rest, "_"+f.Key); ok && (best == "" || len(before) < len(best)) {
			best = before
		}
	}
	return best, best != ""
}

// misread is a setting of the class that would be taken for another class's:
// CLASS_GOLD_ARCHIVE_CONTAINER is the ARCHIVE_CONTAINER of gold. "" for none.
func misread(upper string) string {
	for _, f := range fields(reflect.TypeFor[Class]()) {
		if class, _ := classOf(classPrefix + upper + "_" + f.Key); class != upper {
			return upper + "_" + f.Key
		}
	}
	return ""
}

// unknown complains of variables that are no setting: a slip of the pen would
// otherwise be a setting that silently does not count. Their values are not shown,
// since nobody knows what they are.
func (l *loader) unknown() {
	for variable := range l.given {
		if l.known[variable] {
			continue
		}
		want := "no such setting"
		if fixed := removed[strings.TrimPrefix(variable, Prefix)]; fixed != "" {
			want = "no longer a setting: " + fixed + ". Remove it"
		} else if strings.HasPrefix(variable, classPrefix) {
			var keys []string
			for _, f := range fields(reflect.TypeFor[Class]()) {
				keys = append(keys, f.Key)
			}
			want += fmt.Sprintf(" of a class: want %s<NAME>_ and one of %s", classPrefix, strings.Join(keys, " "))
		} else {
			want += "; the nearest is " + l.nearest(variable)
		}
		l.complaints = append(l.complaints, Complaint{variable, "", want})
	}
}

// nearest is the setting whose name takes the fewest changes to get to.
func (l *loader) nearest(variable string) string {
	best, least := "", -1
	for _, known := range slices.Sorted(maps.Keys(l.known)) {
		if strings.HasPrefix(known, classPrefix) {
			continue
		}
		if d := distance(variable, known); least < 0 || d < least {
			best, least = known, d
		}
	}
	return best
}

// distance is Levenshtein's, by bytes, of at most the first hundred.
func distance(a, b string) int {
	a, b = a[:min(len(a), 100)], b[:min(len(b), 100)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
