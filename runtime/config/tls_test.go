package config

import (
	"crypto/tls"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is wrong with the files of TLS is told of the setting that is to be changed, for
// every connection in the same words.
func TestFilesOfTLS(t *testing.T) {
	one, two := pair(t), pair(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	locked := filepath.Join(t.TempDir(), "locked.pem")
	for path, content := range map[string][]byte{
		empty: nil, locked: pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, thing := range []struct{ name, ca, with string }{
		{"REDIS", "_CA", "REDIS_URL=rediss://h"}, {"AMQP", "_CA", "AMQP_URLS=amqps://h"}, {"SMTP", "_CA", "SMTP_TLS=tls"},
		{"FUNCTION", "_CA", "FUNCTION_URL=https://h/{function}"}, {"TLS", "_CLIENT_CA", "SHARDS=16"}, {"METRICS", "_CLIENT_CA", "SHARDS=16"},
	} {
		for _, tc := range []struct {
			sentence string
			given    []string // THING stands for the thing, CA for _CA or _CLIENT_CA
			about    string   // the setting complained of; "" for none
			want     string
		}{
			{"all is there", []string{"THINGCA=" + one + ".crt", "THING_CERT=" + one + ".crt", "THING_KEY=" + one + ".key"}, "", ""},
			{"an authority that is not there", []string{"THINGCA=/nowhere/ca.pem", "THING_CERT=" + one + ".crt", "THING_KEY=" + one + ".key"},
				"THINGCA", "want a file that can be read: open /nowhere/ca.pem: no such file or directory"},
			{"an authority without a certificate", []string{"THINGCA=" + empty, "THING_CERT=" + one + ".crt", "THING_KEY=" + one + ".key"},
				"THINGCA", "want a file of certificates in PEM: there is none in it"},
			{"a key for an authority", []string{"THINGCA=" + one + ".key", "THING_CERT=" + one + ".crt", "THING_KEY=" + one + ".key"},
				"THINGCA", "want a file of certificates in PEM: there is none in it, but a private key"},
			{"a key that does not fit", []string{"THING_CERT=" + one + ".crt", "THING_KEY=" + two + ".key"},
				"THING_KEY", "want the key of the certificate in STAFFELN_THING_CERT: tls: private key does not match public key"},
			{"a certificate alone", []string{"THING_CERT=" + one + ".crt"}, "THING_KEY", "want the key of STAFFELN_THING_CERT, too, or neither"},
			{"a key alone", []string{"THING_KEY=" + one + ".key"}, "THING_CERT", "want the certificate of STAFFELN_THING_KEY, too, or neither"},
			{"a certificate that is not there", []string{"THING_CERT=/nowhere/cert.pem", "THING_KEY=" + one + ".key"}, "THING_CERT", "want a file that can be read: open /nowhere/cert.pem: no such file or directory"},
			{"a key that is not there", []string{"THING_CERT=" + one + ".crt", "THING_KEY=/nowhere/key.pem"}, "THING_KEY", "want a file that can be read: open /nowhere/key.pem: no such file or directory"},
			{"the two the other way round", []string{"THING_CERT=" + one + ".key", "THING_KEY=" + one + ".crt"}, "THING_CERT", "want a certificate in PEM: there is none in the file"},
			{"a certificate for a key", []string{"THING_CERT=" + one + ".crt", "THING_KEY=" + one + ".crt"}, "THING_KEY", "want a private key in PEM: there is none in the file"},
			{"a key with a passphrase", []string{"THING_CERT=" + one + ".crt", "THING_KEY=" + locked}, "THING_KEY", "want a private key without a passphrase: this one is encrypted"},
		} {
			t.Run(thing.name+": "+tc.sentence, func(t *testing.T) {
				full := strings.NewReplacer("THINGCA", thing.name+thing.ca, "THING", thing.name)
				environ := []string{Prefix + thing.with}
				for _, g := range tc.given {
					environ = append(environ, Prefix+full.Replace(g))
				}
				_, err := Load(environ)
				var got []string
				all, _ := err.(Complaints)
				for _, c := range all {
					got = append(got, c.Variable+": "+c.Want)
				}
				var want []string
				if tc.about != "" {
					want = []string{Prefix + full.Replace(tc.about) + ": " + full.Replace(tc.want)}
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d, err)
				}
			})
		}
	}
}

// Settings of TLS where there is none would be a false comfort.
func TestTLSWithoutTLS(t *testing.T) {
	ca, cert, key := pair(t)+".crt", "", ""
	p := pair(t)
	cert, key = p+".crt", p+".key"
	for _, tc := range []struct {
		sentence string
		given    []string
		about    string
	}{
		{"a Redis without", []string{"REDIS_URL=redis://h", "REDIS_CA=" + ca}, "REDIS_CA"},
		{"a cluster without", []string{"REDIS_URL=redis+cluster://h", "REDIS_INSECURE=true"}, "REDIS_INSECURE"},
		{"a cluster with", []string{"REDIS_URL=rediss+cluster://h", "REDIS_CA=" + ca}, ""},
		{"brokers without", []string{"AMQP_URLS=amqp://a,amqp://b", "AMQP_CERT=" + cert, "AMQP_KEY=" + key}, "AMQP_CERT AMQP_KEY"},
		{"one of two brokers with", []string{"AMQP_URLS=amqp://a,amqps://b", "AMQP_CA=" + ca}, ""},
		{"a mail server without", []string{"SMTP_TLS=none", "SMTP_CA=" + ca}, "SMTP_CA"},
		{"Resend as it is known", []string{"RESEND_CA=" + ca}, ""},
		{"Resend without", []string{"RESEND_URL=http://h", "RESEND_CA=" + ca}, "RESEND_CA"},
		{"a gateway without", []string{"FUNCTION_URL=http://h/{function}", "FUNCTION_INSECURE=yes"}, "FUNCTION_INSECURE"},
		{"authorities that nothing is held against", []string{"REDIS_URL=rediss://h", "REDIS_CA=" + ca, "REDIS_INSECURE=true"}, "REDIS_INSECURE"},
		{"callers' authorities without a certificate", []string{"TLS_CLIENT_CA=" + ca}, "TLS_CLIENT_CA"},
		{"metrics that are not served", []string{"METRICS_LISTEN=off", "METRICS_CERT=" + cert, "METRICS_KEY=" + key}, "METRICS_CERT"},
	} {
		t.Run(tc.sentence, func(t *testing.T) {
			var environ, got []string
			for _, g := range tc.given {
				environ = append(environ, Prefix+g)
			}
			_, err := Load(environ)
			all, _ := err.(Complaints)
			for _, c := range all {
				got = append(got, strings.TrimPrefix(c.Variable, Prefix))
			}
			if strings.Join(got, " ") != tc.about {
				t.Errorf("complaints of %v, want of %s: %v", got, tc.about, err)
			}
		})
	}
}

// Nothing below TLS 1.2 is spoken, whatever is set.
func TestAtLeastTLS12(t *testing.T) {
	p := pair(t)
	for _, given := range []string{"_INSECURE=true", "_CA=" + p + ".crt"} {
		c, err := Load([]string{Prefix + "REDIS" + given, Prefix + "AMQP" + given, Prefix + "SMTP" + given, Prefix + "FUNCTION" + given, Prefix + "RESEND_CA=" + p + ".crt",
			Prefix + "TLS_CERT=" + p + ".crt", Prefix + "TLS_KEY=" + p + ".key", Prefix + "METRICS_CERT=" + p + ".crt", Prefix + "METRICS_KEY=" + p + ".key"})
		if err != nil {
			t.Fatal(err)
		}
		for _, read := range []func() (*tls.Config, error){c.RedisTLS.Config, c.AMQPTLS.Config, c.SMTPTLS.Config, c.ResendTLS().Config,
			c.FunctionTLS.Config, c.ListenTLS.Config, c.MetricsTLS.Config} {
			if secure, err := read(); err != nil || secure.MinVersion != tls.VersionTLS12 {
				t.Errorf("%+v %v", secure, err)
			}
		}
	}
}
