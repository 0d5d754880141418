package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
)

// With nothing set there is nothing to complain of, and the defaults count.
func TestDefaults(t *testing.T) {
	c, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.Period, c.TimeZone, c.Retention, c.Depth, c.ChainAge, c.FilterTag, c.Overrides, c.Shards,
		c.ReconcilePeriod, c.AMQPExchanges, len(c.AMQPURLs), c.Listen, len(c.Classes))
	want := "24h UTC 30d 6 0 backup true 16 10m0s [nova cinder openstack] 0 127.0.0.1:8808 0\n"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// Every default is a value that could have been written, too.
func TestDefaultsAreAllowed(t *testing.T) {
	var environ []string
	for _, s := range Settings() {
		if !strings.Contains(s.Name, "<NAME>") {
			environ = append(environ, s.Name+"="+s.Default)
		}
	}
	written, err := Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	unwritten, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprintf("%+v", written), fmt.Sprintf("%+v", unwritten); a != b {
		t.Errorf("written out, the defaults read otherwise:\n%s\n%s", a, b)
	}
}

// A variable that is set but empty, or blank, is as if it were not there.
func TestEmptyIsUnset(t *testing.T) {
	c, err := Load([]string{"STAFFELN_SHARDS=", "STAFFELN_BACKUP_PERIOD=  ", "STAFFELN_CLASS_GOLD_PERIOD="})
	if err != nil || c.Shards != 16 || c.Period.String() != "24h" {
		t.Error(c.Shards, c.Period, err)
	}
}

func TestValues(t *testing.T) {
	c, err := Load([]string{
		"STAFFELN_BACKUP_PERIOD=daily@02:30",
		"STAFFELN_TIME_ZONE=Europe/Berlin",
		"STAFFELN_BLACKOUT=mon-fri 08:00-18:00",
		"STAFFELN_VOLUME_LIMITS=team a=10, 5f0e=0,k=v=3",
		"STAFFELN_INCLUDE_PROJECTS= a, ,b ",
		"STAFFELN_OVERRIDES=No",
		"STAFFELN_AMQP_URLS=amqp://u:p@a:5672/, amqps://b/nova",
		"STAFFELN_METRICS_LISTEN=off",
		"STAFFELN_FUNCTION_URL=http://{function}.staffeln.svc",
		"OTHER_THING=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if z := c.Period.Zone().String(); z != "Europe/Berlin" {
		t.Errorf("the period goes by the clock of %s", z)
	}
	if d := cmp.Diff(Limits{"team a": 10, "5f0e": 0, "k=v": 3}, c.VolumeLimits); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(List{"a", "b"}, c.IncludeProjects); d != "" {
		t.Error(d)
	}
	if c.Overrides || len(c.AMQPURLs) != 2 || c.AMQPURLs[0].Reveal() != "amqp://u:p@a:5672/" {
		t.Error(c.Overrides, c.AMQPURLs)
	}
}

// What a class does not set is as in the general settings.
func TestClasses(t *testing.T) {
	c, err := Load([]string{
		"STAFFELN_BACKUP_PERIOD=daily@02:00",
		"STAFFELN_FULL_BACKUP_DEPTH=3",
		"STAFFELN_BLACKOUT=08:00-18:00",
		"STAFFELN_CHAIN_AGE=2w",
		"STAFFELN_CLASS_GOLD_PERIOD=6h",
		"STAFFELN_CLASS_GOLD_RETENTION_TIME=1y",
		"STAFFELN_CLASS_VERY_COLD_TIME_ZONE=Asia/Tokyo",
		"STAFFELN_CLASS_VERY_COLD_CONTAINER=glacier",
		"STAFFELN_CLASS_VERY_COLD_FULL_BACKUP_DEPTH=0",
		"STAFFELN_CLASS_VERY_COLD_BLACKOUT=none",
		"STAFFELN_CLASS_VERY_COLD_CHAIN_AGE=0",
		"STAFFELN_ARCHIVE_CONTAINER=vault",
		"STAFFELN_CLASS_GOLD_ARCHIVE_EVERY=year",
		"STAFFELN_CLASS_VERY_COLD_ARCHIVE_CONTAINER=none",
	})
	if err != nil {
		t.Fatal(err)
	}
	show := func(c Class) string {
		return fmt.Sprintf("%s in %s (%s), keep %s, depth %d, chain %s, container %q, blackout %q, archive %+v",
			c.Period, c.TimeZone, c.Period.Zone(), c.Retention, c.Depth, c.ChainAge, c.Container, c.Blackout, c.Archive())
	}
	got := []string{strings.Join(c.ClassNames(), " "), show(c.General()), show(c.Classes["gold"]), show(c.Classes["very-cold"])}
	want := []string{
		"gold very-cold",
		`daily@02:00 in UTC (UTC), keep 30d, depth 3, chain 2w, container "", blackout "08:00-18:00", archive {Container:vault Every:month}`,
		`6h in UTC (UTC), keep 1y, depth 3, chain 2w, container "", blackout "08:00-18:00", archive {Container:vault Every:year}`,
		`daily@02:00 in Asia/Tokyo (Asia/Tokyo), keep 30d, depth 0, chain 0, container "glacier", blackout "", archive {Container: Every:}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Each bad value is complained of by name and value, with what is allowed.
func TestComplaints(t *testing.T) {
	for _, tc := range []struct{ given, want string }{
		{"BACKUP_PERIOD=sometimes", `"sometimes" is not a schedule`},
		{"BACKUP_PERIOD=0 0 30 2 *", "every year"},
		{"TIME_ZONE=Mars/Olympus", "IANA"},
		{"TIME_ZONE=Local", "IANA"},
		{"TIME_ZONE=../../etc/passwd", "IANA"},
		{"SPREAD_WINDOW=5", "a duration such as 90s, 10m or 6h, from 0s to 168h"},
		{"SPREAD_WINDOW=-1s", "a duration such as 90s, 10m or 6h, from 0s to 168h"},
		{"RETENTION_TIME=soon", "not a span of time"},
		{"RETENTION_TIME=9999y", "longer than 100 years"},
		{"RETENTION_TIME=0", "nothing is kept for no time"},
		{"CHAIN_AGE=-1d", "not a span of time"},
		{"FULL_BACKUP_DEPTH=six", "a whole number, from 0 to 1000"},
		{"FULL_BACKUP_DEPTH=-1", "a whole number, from 0 to 1000"},
		{"FULL_BACKUP_DEPTH=1.5", "a whole number, from 0 to 1000"},
		{"SHARDS=0", "a whole number, from 1 to 1000"},
		{"SHARDS=99999999999999999999", "a whole number, from 1 to 1000"},
		{"OVERRIDES=perhaps", "true or false"},
		{"OVERRIDE_MAX_PERIOD=30m", "want 0, or no less than STAFFELN_OVERRIDE_MIN_PERIOD"},
		{"OVERRIDE_MAX_PERIOD=9000h", "from 0s to 8784h"},
		{"OVERRIDE_MIN_RETENTION=a while", "not a span of time"},
		{"OVERRIDE_MIN_KEPT=-1", "a whole number, from 0 to 100000"},
		{"LOCK=for ever", "not a span of time"},
		{"LOCK_MAIL=perhaps", "true or false"},
		{"CLASS_GOLD_LOCK=for ever", "not a span of time"},
		{"VOLUME_LIMITS=a", "has no ="},
		{"VOLUME_LIMITS=a=-1", "whole numbers from 0"},
		{"VOLUME_LIMITS=a=1,a=2", "comes twice"},
		{"INCLUDE_PROJECTS=,", "at least one"},
		{"RIGHTS=root", "auto, admin or projects"},
		{"LOG_FORMAT=xml", "text or json"},
		{"LOG_LEVEL=loud", "debug, info, warn or error"},
		{"BLACKOUT=at night", "is not a blackout"},
		{"VOLUME_FILTER_TAG=a/b", "letters, digits"},
		{"VOLUME_FILTER_TAG=last-backup-time", "written to servers"},
		{"SCHEDULE_KEY=backup", "another key than that of STAFFELN_VOLUME_FILTER_TAG"},
		{"NAME_TEMPLATE=same", `would give every backup the same name`},
		{"NAME_TEMPLATE={VOLUME}-{BACKUP_DATE}", `has an unknown word`},
		{"NAME_TEMPLATE={VOLUME_NAME", "unknown word"},
		{"RECONCILE_PERIOD=10500ms", "whole seconds"},
		{"BACKUPS_PERIOD=90500ms", "whole seconds"},
		{"RECONCILE_PERIOD=10ms", "from 10s to 24h"},
		{"API_RATE=0", "a whole number, at least 1"},
		{"REDIS_URL=localhost:6379", "redis:// or rediss://"},
		{"AMQP_URLS=http://x", "amqp:// or amqps://"},
		{"AMQP_URLS=amqp://x:99999/", "amqp:// or amqps://|a port from 1 to 65535"},
		{"AMQP_QUEUE=amq.mine", "RabbitMQ's own"},
		{"AMQP_CA=/nowhere/ca.pem", "can be read"},
		{"FUNCTION_URL=http://gateway/", "{function}"},
		{"LISTEN=8808", "HOST:PORT"},
		{"LISTEN=:http", "HOST:PORT"},
		{"METRICS_LISTEN=127.0.0.1:8808", "another address"},
		{"METRICS_LISTEN=none", "HOST:PORT, or off"}, {"SHARDS=1001", "from 1 to 1000"},
		{"FUNCTION=Dispatch!", "name of a function"},
		{"BACKUP_PEROID=24h", "nearest is STAFFELN_BACKUP_PERIOD"},
		{"AMQP_URL=amqp://u:hunter2@h/", "nearest is STAFFELN_AMQP_URLS"},
		{"=x", "no such setting"},
		{"ARCHIVE_RULES=forever", "at most once, such as"},
		{"ARCHIVE_EVERY=week", "month or year"},
		{"ARCHIVE_CONTAINER=a\tb", "no control characters"},
		{"ARCHIVE_CONTAINER=" + strings.Repeat("a", 256), "at most 255 bytes"},
		{"ARCHIVE_CONTAINER=🧊", "basic plane"},
		{"ORPHAN_RETENTION=a while", "not a span of time"},
		{"BRAKE_PERCENT=0", "a whole number, from 1 to 100"},
		{"BRAKE_PERCENT=101", "a whole number, from 1 to 100"},
		{"BRAKE_FROM=0", "a whole number, at least 1"},
		{"POLICY_ROLES=,", "at least one"},
		{"POLICY_USERS=staffeln service", "is no user's id"},
		{"POLICY_USERS=a/b", "is no user's id"},
		{"TLS_CERT=/nowhere/cert.pem", "want the key of STAFFELN_TLS_CERT, too"},
		{"TLS_KEY=/nowhere/key.pem", "want the certificate of STAFFELN_TLS_KEY, too"},
		{"REPORT_PERIOD=at breakfast", "is not a schedule"},
		{"REPORT_RECIPIENTS=ada", `"ada" is not an e-mail address`},
		{"REPORT_RECIPIENTS=Ada <ada@example.org>", "without names"},
		{"REPORT_RECIPIENTS=ada@example.org;bob@example.org", "by commas"},
		{"REPORT_RECIPIENTS=ada@example.org,ADA@example.org", "comes twice"},
		{"REPORT_RECIPIENTS=,", "at least one"},
		{"REPORT_OPERATORS=root", "is not an e-mail address"},
		{"REPORT_DOMAIN=@example.org", "without an @"},
		{"REPORT_DOMAIN=[127.0.0.1]", "want a domain"},
		{"REPORT_DOMAIN=a domain", "want a domain"},
		{"REPORT_ADDRESSING=all", "want each or blind"},
		{"TEMPLATES=/nowhere/templates", "a directory that can be read"},
		{"TEMPLATES=/etc/passwd", "want a directory, which it is not"},
		{"MAIL_CHANNELS=log,pigeon", `"pigeon" is no way to send mail`},
		{"MAIL_CHANNELS=log,log", "comes twice"},
		{"MAIL_CHANNELS=,", "at least one"},
		{"MAIL_FROM=Backups", "want one e-mail address"},
		{"MAIL_FROM=a@example.org, b@example.org", "want one e-mail address"},
		{"MAIL_FROM=Backups <a@example.org>\r\nBcc: b@example.org", "want one e-mail address"},
		{"MAIL_REPLY_TO=nobody", "want one e-mail address"},
		{"RESEND_API_KEY=a key", "want the key itself"},
		{"RESEND_URL=smtp://resend", "http:// or https://"},
		{"SMTP_HOST=mail.example.org:587", "the port is STAFFELN_SMTP_PORT"},
		{"SMTP_HOST=smtp://mail", "a name or an address alone"},
		{"SMTP_PORT=0", "a whole number, from 1 to 65535"},
		{"SMTP_TLS=yes", "want starttls, tls or none"},
		{"SMTP_CA=/nowhere/ca.pem", "can be read"},
		{"SMTP_INSECURE=perhaps", "true or false"},
		{"CLASS_GOLD_ARCHIVE_RULES=daily=x", "daily"},
		{"CLASS_GOLD_ARCHIVE_EVERY=week", "want month or year"},
		{"CLASS_GOLD_ARCHIVE_CONTAINER=a\x7f", "no control characters"},
		{"CLASS_GOLD_ARCHIVE_PERIOD=1h", "STAFFELN_CLASS_GOLD_ARCHIVE_CONTAINER would be that of another class"},
		{"CLASS_GOLD_COLOUR=yellow", "one of PERIOD"},
		{"CLASS_PERIOD=1h", "one of PERIOD"},
		{"CLASS_gold_PERIOD=1h", "upper-case letters"},
		{"CLASS__PERIOD=1h", "one of PERIOD"},
		{"CLASS_YES_PERIOD=1h", `another name than "yes"`},
		{"CLASS_DEFAULT_PERIOD=1h", `another name than "default"`},
		{"CLASS_GOLD_PERIOD=often", "is not a schedule"},
		{"CLASS_GOLD_FULL_BACKUP_DEPTH=-3", "a whole number, from 0 to 1000"},
		{"CLASS_GOLD_RETENTION_TIME=0", "nothing is kept for no time"},
	} {
		t.Run(tc.given, func(t *testing.T) {
			c, err := Load([]string{Prefix + tc.given})
			var all Complaints
			if !errors.As(err, &all) || len(all) != 1 {
				t.Fatalf("%d complaints, want one: %v (%+v)", len(all), err, c)
			}
			name, value, _ := strings.Cut(tc.given, "=")
			if about, ok := map[string]string{"TLS_CERT": "TLS_KEY", "TLS_KEY": "TLS_CERT"}[name]; ok {
				name, value = about, "" // the one that is missing
			}
			if all[0].Variable != Prefix+name {
				t.Errorf("it is about %s", all[0].Variable)
			}
			if all[0].Value != "" && !strings.Contains(name, "URL") && name != "RESEND_API_KEY" && all[0].Value != value {
				t.Errorf("it quotes %q", all[0].Value)
			}
			found := false
			for want := range strings.SplitSeq(tc.want, "|") {
				found = found || strings.Contains(all[0].Want, want)
			}
			if !found {
				t.Errorf("\n got %s\nwant %s", all[0].Want, tc.want)
			}
		})
	}
}

// All that is wrong is told at once, in the order of the names.
func TestAllComplaintsAtOnce(t *testing.T) {
	_, err := Load([]string{"STAFFELN_SHARDS=none", "STAFFELN_RIGHTS=root", "STAFFELN_SHARDZ=1", "STAFFELN_CLASS_GOLD_PERIOD=x", "STAFFELN_API_RATE=fast"})
	var got []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		name, _, _ := strings.Cut(line, ":")
		got = append(got, name)
	}
	want := []string{`STAFFELN_API_RATE="fast"`, `STAFFELN_CLASS_GOLD_PERIOD="x"`, `STAFFELN_RIGHTS="root"`, `STAFFELN_SHARDS="none"`, "STAFFELN_SHARDZ"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A setting of an earlier version is not passed over: it is told what is in force instead.
func TestRemoved(t *testing.T) {
	for key := range removed {
		_, err := Load([]string{Prefix + key + "=5s"})
		if want := Prefix + key + ": no longer a setting: " + removed[key] + ". Remove it"; err == nil || err.Error() != want {
			t.Errorf("%s: %v", key, err)
		}
		if slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Name == Prefix+key }) {
			t.Errorf("%s is both a setting and removed", key)
		}
	}
}

// A general value that is wrong is not complained of again for every class.
func TestClassInheritsNoComplaint(t *testing.T) {
	_, err := Load([]string{"STAFFELN_FULL_BACKUP_DEPTH=-1", "STAFFELN_RETENTION_TIME=0", "STAFFELN_CLASS_GOLD_PERIOD=6h"})
	if all := err.(Complaints); len(all) != 2 {
		t.Error(all)
	}
}

// No password reaches a complaint, whatever is wrong with the value or its name.
func TestSecretsStaySecret(t *testing.T) {
	const secret = "hunter2"
	for _, given := range []string{
		"REDIS_URL=http://me:hunter2@host/", "REDIS_URL=redis://me:hunter2@ho st/", "REDIS_URL=hunter2@host:6379", "REDIS_URL=redis:hunter2@host",
		"REDIS_URL=redis://me:hunter2@host:port", "REDIS_URL=redis://me:%zzhunter2@host", "REDIS_URL=unix:///x?password=hunter2", "REDIS_URL=http://h/?password=hunter2",
		"AMQP_URLS=amqp://a:b@c,http://me:hunter2@host", "AMQP_URLS=amqp://me:pass,hunter2@host", "FUNCTION_URL=http://me:hunter2@host/",
		"REDIS_URI=redis://me:hunter2@host", "REDIS_PASSWORD=hunter2",
		"OPERATOR_TOKEN=hunter2", "OPERATOR_TOKEN=http://hunter2/and a blank",
		"RESEND_API_KEY=hunter2 or so", "RESEND_URL=ftp://me:hunter2@host", "SMTP_PASSWORD=hunter2",
	} {
		_, err := Load([]string{Prefix + given})
		if err == nil {
			t.Errorf("%s is taken", given)
		} else if strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
	}
	c, err := Load([]string{"STAFFELN_REDIS_URL=redis://me:hunter2@host:6379/0?x=hunter2", "STAFFELN_AMQP_URLS=amqp://me:hunter2@host",
		"STAFFELN_SMTP_USER=me", "STAFFELN_SMTP_PASSWORD=hunter2", "STAFFELN_RESEND_API_KEY=re_hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "url", c.RedisURL, "urls", c.AMQPURLs, "password", c.SMTPPassword, "key", c.ResendAPIKey, "config", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "url", c.RedisURL, "urls", c.AMQPURLs, "config", c)
	fmt.Fprintf(&log, "%v %+v %#v %s %q", c, c, c, c.RedisURL, c.RedisURL)
	if strings.Contains(log.String(), secret) {
		t.Error(log.String())
	}
	if got := c.RedisURL.String(); got != "redis://***@host:6379/0?***" {
		t.Error(got)
	}
}

// Kubernetes tells every container of the services beside it, ours included;
// nobody wrote those variables.
func TestKubernetesServices(t *testing.T) {
	_, err := Load([]string{
		"STAFFELN_SERVICE_HOST=10.0.0.1", "STAFFELN_SERVICE_PORT=8808", "STAFFELN_PORT=tcp://10.0.0.1:8808", "STAFFELN_PORT_8808_TCP=tcp://10.0.0.1:8808",
		"STAFFELN_API_SERVICE_HOST=10.0.0.1", "STAFFELN_API_SERVICE_PORT_HTTP=8808", "STAFFELN_API_PORT=tcp://10.0.0.1:8808",
		"STAFFELN_API_PORT_8808_TCP_PROTO=tcp", "STAFFELN_API_PORT_8808_TCP_PORT=8808", "STAFFELN_API_PORT_8808_TCP_ADDR=10.0.0.1",
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := Load([]string{"STAFFELN_LISTEN_PORT=8808"}); err == nil {
		t.Error("a setting that is none is passed over")
	}
}

func TestTLS(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{"STAFFELN_REDIS_CA=" + file}); err == nil || !strings.Contains(err.Error(), "certificates in PEM") {
		t.Error(err)
	}
	c, err := Load([]string{"STAFFELN_AMQP_INSECURE=yes"})
	if err != nil {
		t.Fatal(err)
	}
	if tls, err := c.AMQPTLS.Config(); err != nil || !tls.InsecureSkipVerify {
		t.Error(tls, err)
	}
	if tls, err := c.RedisTLS.Config(); err != nil || tls != nil {
		t.Error(tls, err)
	}
}

// The certificate and the key of LISTEN belong together.
func TestListenTLS(t *testing.T) {
	path := pair(t)
	cert, key, other := path+".crt", path+".key", pair(t)+".key"
	c, err := Load([]string{"STAFFELN_TLS_CERT=" + cert, "STAFFELN_TLS_KEY=" + key})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.ListenTLS.Config(); err != nil || len(s.Certificates) != 1 {
		t.Error(s, err)
	}
	for _, tc := range []struct{ cert, key, about, want string }{
		{cert, other, "TLS_KEY", "does not match"},
		{key, key, "TLS_CERT", "want a certificate in PEM"},
		{cert, key + ".old", "TLS_KEY", "can be read"},
		{cert + ".old", key, "TLS_CERT", "can be read"},
	} {
		_, err := Load([]string{"STAFFELN_TLS_CERT=" + tc.cert, "STAFFELN_TLS_KEY=" + tc.key})
		all, _ := err.(Complaints)
		if len(all) != 1 || all[0].Variable != Prefix+tc.about || !strings.Contains(all[0].Want, tc.want) {
			t.Errorf("want %q of %s, not %v", tc.want, tc.about, err)
		}
	}
	if c, err := Load(nil); err != nil {
		t.Error(err)
	} else if s, err := c.ListenTLS.Config(); s != nil || err != nil {
		t.Error("TLS without a certificate", s, err)
	}
}

// pair writes a certificate to a file PATH.crt and its key to PATH.key.
func pair(t *testing.T) (path string) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	check(err)
	key, err := x509.MarshalPKCS8PrivateKey(private)
	check(err)
	path = filepath.Join(t.TempDir(), "tls")
	check(os.WriteFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	check(os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	return path
}

// Every tag of the structs is one that the loader knows what to do with.
func TestTags(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[Config](), reflect.TypeFor[Class](), reflect.TypeFor[TLSClient](), reflect.TypeFor[TLSServer](),
	} {
		for _, f := range fields(typ) {
			for _, bound := range []string{f.Min, f.Max} {
				if _, err := time.ParseDuration(bound); bound != "" && f.Type == reflect.TypeFor[time.Duration]() && err != nil {
					t.Errorf("%s: %v", f.Key, err)
				}
			}
			general := map[string]string{"PERIOD": "BACKUP_PERIOD", "CONTAINER": "BACKUP_CONTAINER"}[f.Key]
			if general == "" {
				general = f.Key
			}
			if typ == reflect.TypeFor[Class]() && f.Of != general {
				t.Errorf("%s of a class takes the place of %s: the manual says otherwise", f.Key, f.Of)
			}
			if f.Of != "" && !slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Name == Prefix+f.Of }) {
				t.Errorf("%s of a class takes the place of %s, which is no setting", f.Key, f.Of)
			}
			if f.Unit == "" && f.Of == "" {
				t.Errorf("%s has no unit", f.Key)
			}
		}
	}
}

// docs/settings.md has the tables that the structs make, each under the heading of its group
// and in this order.
func TestManual(t *testing.T) {
	const path = "../../docs/settings.md"
	about := comments(t)
	cell := strings.NewReplacer("|", `\|`, "<", `\<`, "\n", " ")
	var want []string
	group := ""
	for i, all := 0, Settings(); i < len(all); {
		s := all[i]
		var names []string
		for ; i < len(all) && all[i].Field == s.Field; i++ {
			names = append(names, "`"+all[i].Name+"`")
		}
		if s.Group != group {
			group = s.Group
			want = append(want, "## "+group, "| Name | Default | Unit | Meaning |", "|---|---|---|---|")
		}
		if about[s.Field] == "" {
			t.Errorf("%s has no comment", s.Field)
		}
		def := s.Default
		if def != "" && !strings.HasPrefix(def, "as ") {
			def = "`" + def + "`"
		}
		want = append(want, fmt.Sprintf("| %s | %s | %s | %s |", strings.Join(names, "<br>"),
			cell.Replace(def), cell.Replace(s.Unit), cell.Replace(about[s.Field])))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "## ") || strings.HasPrefix(line, "|") {
			got = append(got, line)
		}
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("%s has other headings and tables (-) than these (+), which belong there:\n%s\n%s",
			path, d, strings.Join(want, "\n"))
	}
}

// comments are those of the fields, by "Struct.Field".
func comments(t *testing.T) map[string]string {
	about := map[string]string{}
	add := func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					about[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
				}
			}
		}
		return true
	}
	for _, path := range []string{"config.go", "tls.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, add)
	}
	return about
}

// Whatever the environment holds, Load answers, and what it accepts is sane.
func FuzzLoad(f *testing.F) {
	for _, s := range Settings() {
		f.Add(strings.Replace(strings.TrimPrefix(s.Name, Prefix), "<NAME>", "GOLD", 1), s.Default)
	}
	f.Add("VOLUME_LIMITS", "a=1,b=2")
	f.Add("CLASS_A_B_PERIOD", "0 0 1 1 *")
	f.Add("REDIS_URL", "redis://u:p@h/0?x=y")
	f.Add("", "1")
	f.Fuzz(func(t *testing.T, name, value string) {
		files := slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Name == Prefix+name && strings.HasPrefix(s.Unit, "path of") })
		if files || name == "TIME_ZONE" || strings.HasSuffix(name, "_TIME_ZONE") {
			t.Skip("reads files")
		}
		c, err := Load([]string{Prefix + name + "=" + value})
		if err != nil {
			if all, ok := err.(Complaints); !ok || len(all) == 0 || all[0].Variable == "" || all[0].Want == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		if c.Period.IsZero() || c.Retention.IsZero() || c.Shards < 1 || c.ReportPeriod.IsZero() || len(c.MailChannels) < 1 || c.APIRate < 1 || c.FilterTag == "" || c.ReconcilePeriod < time.Second {
			t.Fatalf("%+v", c)
		}
		for name, class := range c.Classes {
			if name != strings.ToLower(name) || class.Retention.IsZero() || class.Period.IsZero() || name == backup.Default {
				t.Fatalf("%s %+v", name, class)
			}
		}
	})
}
