package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// A test that fails is shown with its output, one that passes is not, and the end says what
// took longest, what was started and what was skipped.
func TestReport(t *testing.T) {
	const stream = `{"Action":"run","Package":"staffeln/a","Test":"TestWell"}
{"Action":"output","Package":"staffeln/a","Test":"TestWell","Output":"said by the good one\n"}
{"Action":"pass","Package":"staffeln/a","Test":"TestWell","Elapsed":2.5}
{"Action":"output","Package":"staffeln/a","Test":"TestIll","Output":"said by the bad one\n"}
{"Action":"output","Package":"staffeln/a","Test":"TestIll","Output":"    ill_test.go:7: it is 3, want 4\n"}
{"Action":"fail","Package":"staffeln/a","Test":"TestIll/part","Elapsed":9}
{"Action":"fail","Package":"staffeln/a","Test":"TestIll","Elapsed":9}
{"Action":"skip","Package":"staffeln/a","Test":"TestLong","Elapsed":0}
{"Action":"fail","Package":"staffeln/a","Elapsed":12}
{"ImportPath":"staffeln/b","Action":"build-output","Output":"b.go:1: does not compile\n"}
not json
`
	var out bytes.Buffer
	r := report{output: map[string][]string{}}
	r.read(strings.NewReader(stream), &out)
	r.summary(&out, "redis-server\nrabbitmq-server\nredis-server\n", time.Minute)
	const want = `said by the bad one
    ill_test.go:7: it is 3, want 4
fail    12.0s  a
b.go:1: does not compile
not json

the slowest packages:
     12.0s  a

the slowest tests:
      9.0s  a TestIll
      2.5s  a TestWell
      0.0s  a TestLong

servers started: 1 × rabbitmq-server, 2 × redis-server
skipped: a TestLong
FAILED: a TestIll/part
FAILED: a TestIll
    ill_test.go:7: it is 3, want 4
FAILED: a
3 tests in 1m0s
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
