package process

import (
	"strings"
	"testing"
	"unicode/utf8"

	"staffeln/runtime/config"
)

// Whatever the environment holds: the settings are read, or everything that is wrong
// is told line by line, each with the variable's name, none long, and none with a
// password, whichever variable it stands in.
func FuzzRead(f *testing.F) {
	f.Add("http://127.0.0.1:5000/v3", "redis://:k3yring@h/0", "amqp://u:k3yring@h/", "RETENTION", "2w", "daily=7 weekly=4")
	f.Add("http://u:k3yring@h", "redis://u:k3yring?@h", "amqp://u:k3yring@h,x", "CLASS_GOLD_PERIOD", "6h", "none")
	f.Add("", "redis+sentinel://m:k3yring@", "amqp://k3yring", "VOLUME_LIMITS", "a=1,b=-2", "daily=-1")
	f.Add("\x00", "://k3yring", "amqp://a:k3yring@h%zz/", "NAME_TEMPLATE", strings.Repeat("{", 3000), strings.Repeat("x", 3000))
	f.Add("http://h", "", "", "SMTP_FROM", "a\r\nBcc: b@c", "last=3 last=3")
	f.Add("http://h", "", "", "BLACKOUT", "mon-fri 08:00-18:00; 23:30-00:30", "")
	f.Add("http://h", "", "", "FUNCTION_URL", "http://{function}/k3yring", "yearly=99999999999999999999")
	f.Fuzz(func(t *testing.T, keystone, redis, brokers, name, value, rules string) {
		const secret = "k3yring"
		for _, file := range []string{"_CA", "TEMPLATES", "TLS_", "TIME_ZONE", "CERT", "KEY_FILE"} {
			if strings.Contains(name, file) {
				t.Skip("reads files")
			}
		}
		s, err := Read([]string{"OS_AUTH_URL=" + keystone, "OS_USERNAME=u", "OS_PASSWORD=" + secret, "OS_PROJECT_NAME=service",
			config.Prefix + "REDIS_URL=" + redis, config.Prefix + "AMQP_URLS=" + brokers, config.Prefix + "SMTP_PASSWORD=" + secret, config.Prefix + "SMTP_USER=u", config.Prefix + "SMTP_HOST=h",
			config.Prefix + "ARCHIVE_RULES=" + rules, config.Prefix + name + "=" + value})
		if err == nil {
			all := s.Policies()
			for class, p := range all {
				if p.Schedule.IsZero() || p.Retention.IsZero() || class == "" {
					t.Fatalf("%s: %+v", class, p)
				}
			}
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if len(line) > 2500 || !utf8.ValidString(line) && utf8.ValidString(keystone+redis+brokers+name+value+rules) || strings.ContainsAny(line, "\r\x00") && !strings.ContainsAny(name, "\r\x00\n") {
				t.Fatalf("%d bytes in a line: %.400q", len(line), line)
			}
			if !strings.Contains(line, config.Prefix) && !strings.Contains(line, "OS_") && !strings.ContainsAny(name, "\n") {
				t.Fatalf("no variable in %q", line)
			}
			// It is a password by any reading where a colon stands before it, and an @ later;
			// and where nobody has put it anywhere but into OS_PASSWORD and SMTP_PASSWORD.
			hidden := true
			for _, s := range []string{keystone, redis, brokers, name, value, rules} {
				before, after, has := strings.Cut(s, secret)
				hidden = hidden && (!has || strings.HasSuffix(before, ":") && strings.HasPrefix(after, "@") && strings.Count(s, ",") == 0 && strings.Count(s, "@") == 1 && strings.Count(before, ":") == 2 && strings.Contains(before, "://"))
			}
			if hidden && strings.Contains(line, secret) {
				t.Fatalf("%q has the password", line)
			}
		}
	})
}
