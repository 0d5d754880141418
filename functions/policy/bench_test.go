package policy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/runtime/metrics"
)

// The check of what Cinder really sent, beside a handler that does nothing, over the
// loopback on connections that are kept. Both are asked by the same clients in turns,
// so that what else the machine does is both's. Their requests are the same to the
// byte; each reads all of its body, as a handler must before the connection can be
// used again.
func BenchmarkCheck(b *testing.B) {
	for _, name := range []string{"form-alice", "json-alice"} {
		b.Run(name, func(b *testing.B) {
			f := newBench(nil).function()
			f.Log, f.Now, f.Count = slog.New(slog.DiscardHandler), time.Now, metrics.New().Count
			ours, empty := serve(b, f.Handler()), serve(b, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			request := onTheWire(b, name)
			var checked, idle load
			var ratios []float64
			for b.Loop() {
				ratios = append(ratios, checked.ask(b, ours, request)/idle.ask(b, empty, request))
			}
			slices.Sort(ratios)
			b.ReportMetric(checked.rate(), "verdicts/s")
			b.ReportMetric(ratios[len(ratios)/2], "of-empty")
			b.ReportMetric(checked.micros(50), "p50-µs")
			b.ReportMetric(checked.micros(99), "p99-µs")
			b.ReportMetric(idle.micros(50), "empty-p50-µs")
			b.ReportMetric(idle.micros(99), "empty-p99-µs")
			b.ReportMetric(0, "ns/op") // of both together: says nothing
		})
	}
}

func serve(b *testing.B, h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second}
	go func() { _ = srv.Serve(l) }() // until it is closed
	b.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// onTheWire is the captured request, as a client writes it that keeps its connection.
func onTheWire(b *testing.B, name string) []byte {
	r := sent(b, name)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Appendf(nil, "POST %s?%s HTTP/1.1\r\nHost: 127.0.0.1:8808\r\nUser-Agent: python-requests/2.28.1\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"+
		"Connection: keep-alive\r\nContent-Length: %d\r\nContent-Type: %s\r\n\r\n%s", Path, r.URL.RawQuery, len(body), r.Header.Get("Content-Type"), body)
}

// A load is what asking so far came to.
type load struct {
	took time.Duration
	each []time.Duration
}

// ask asks with a few clients at once, each over and over, and says how many answers
// there were in a second.
func (l *load) ask(b *testing.B, address string, request []byte) float64 {
	const clients, times = 8, 100
	var all sync.WaitGroup
	each := make([][]time.Duration, clients)
	start := time.Now()
	for i := range clients {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for range times {
				asked := time.Now()
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				if err := skipAnswer(answers); err != nil {
					b.Error(err)
					return
				}
				each[i] = append(each[i], time.Since(asked))
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	l.took += took
	l.each = append(l.each, slices.Concat(each...)...)
	return clients * times / took.Seconds()
}

// skipAnswer reads an answer with as little of the client's own work as can be: it
// is the server that is measured.
func skipAnswer(r *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && !strings.HasPrefix(string(line), "HTTP/1.1 200"):
			return fmt.Errorf("answered %q", line)
		case len(line) == 2:
			_, err = r.Discard(length)
			return err
		case strings.HasPrefix(string(line), "Content-Length: "):
			if length, err = strconv.Atoi(string(line[len("Content-Length: ") : len(line)-2])); err != nil {
				return err
			}
		}
	}
}

func (l *load) rate() float64 { return float64(len(l.each)) / l.took.Seconds() }

func (l *load) micros(percent int) float64 {
	slices.Sort(l.each)
	return float64(l.each[len(l.each)*percent/100].Nanoseconds()) / 1000
}
