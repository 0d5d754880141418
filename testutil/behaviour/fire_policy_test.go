package behaviour

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"staffeln/testutil/simcloud"
)

// The port of the policy check is open to everybody in the control plane. Whatever
// strangers do there, Cinder is answered, rightly and before its users give up;
// and when they are gone nothing of it is left.
func TestFirePolicyPort(t *testing.T) {
	long(t)
	t.Parallel()
	b := ignite(t, nil)
	m := b.machines(3)
	// Few files make it easy for strangers to take all of them.
	const files = 400
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	run := b.prepareAt("/bin/sh", b.env(nil), "-c", fmt.Sprintf("ulimit -n %d && exec %s run", files, path))
	run.launch()
	run.ready()
	b.optIn(m[:2]...)
	b.settled(m[:2]...)

	service := &session{auth: b.cloud.auth, user: b.rights.env["OS_USERNAME"], password: password,
		project: b.rights.env["OS_PROJECT_NAME"]}
	user, err := service.userID()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.sim.SetPolicy(policyFile(t, "http://"+run.addr, user)); err != nil {
		t.Fatal(err)
	}
	b.sim.AddUser(b.id+"-tenant", password, simcloud.On(b.project, "member"))
	p := &project{t: t, s: b.scene, id: b.project, name: b.id,
		user: &session{auth: b.cloud.auth, user: b.id + "-tenant", password: password, project: b.id}}
	mine := b.sim.AddVolume(b.project, "mine", 1, nil)
	ours := b.of(m[0].volume)[0]

	// check has Cinder ask about a backup of ours and one of the tenant's own.
	check := func() {
		t.Helper()
		for what, try := range map[string]func() error{
			"delete":      func() error { return p.deleteBackup(ours.ID) },
			"strip":       func() error { return p.updateBackup(ours.ID, object{"metadata": object{}}) },
			"then rename": func() error { return p.updateBackup(ours.ID, object{"name": "mine"}) },
		} {
			if err := try(); status(err) != 403 {
				t.Errorf("a tenant tries to %s what is ours: Cinder said %v, want 403", what, err)
			}
		}
		own := p.manual(mine, object{"metadata": object{"mine": "yes"}})
		if err := p.updateBackup(own, object{"name": "renamed"}); err != nil {
			t.Errorf("a tenant renames what is theirs: %v", err)
		}
		if err := p.deleteBackup(own); err != nil {
			t.Errorf("a tenant deletes what is theirs: %v", err)
		}
		p.gone(own)
	}
	check()
	idle := func() (fds, goroutines float64) {
		return run.measure("process_open_fds"), run.measure("go_goroutines")
	}
	fds, goroutines := idle()

	f := &flood{to: run.addr}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, way := range []struct {
		times int
		do    func(ctx context.Context, c net.Conn)
	}{
		{200, silent}, {40, halfRequest}, {40, slowHeaders}, {20, slowBody}, {10, hugeBody}, {10, endlessChunks},
		{20, garbage}, {20, garbageBody}, {20, unheard}, {20, reset},
	} {
		for range way.times {
			f.all.Go(func() { f.keep(ctx, way.do) })
		}
	}
	until(t, b.cloud.poll, patient, "every file that strangers may have is taken", func() string {
		if n := run.measure("process_open_fds"); n < files/2 {
			return fmt.Sprintf("%v are", n)
		}
		return ""
	})
	for range 2 {
		check()
		if resp, err := apiClient.Get("http://" + run.addr + "/healthz"); err != nil || resp.StatusCode != 200 {
			t.Errorf("in the flood its health is %v, %v", resp, err)
		} else {
			resp.Body.Close()
		}
	}
	// And its own work goes on.
	b.optIn(m[2])
	b.settled(m...)
	if most := run.measure("process_open_fds"); most > files {
		t.Errorf("it has %v files open", most)
	}
	stop()
	f.all.Wait()
	t.Logf("%d connections were made; %v files and %v goroutines before", f.made.Load(), fds, goroutines)
	if n := f.made.Load(); n < 1000 {
		t.Errorf("a flood of %d connections is none", n)
	}
	until(t, b.cloud.poll, patient, "nothing of the flood is left", func() string {
		// The connections to Redis that it took stay for the next time.
		nowFiles, now := idle()
		if nowFiles > fds+30 || now > goroutines+60 {
			return fmt.Sprintf("%v files and %v goroutines, and were %v and %v", nowFiles, now, fds, goroutines)
		}
		return ""
	})
	check()
	if lines := run.log.lines("panicked"); len(lines) > 0 {
		t.Errorf("the check panicked: %s", lines[0])
	}
	for _, c := range b.of(m[0].volume) {
		if c.ID == ours.ID && (c.Status != "available" || !slices.Equal(keys(c.Metadata), keys(ours.Metadata)) ||
			c.Name != ours.Name) {
			t.Errorf("the backup was %+v and is now %+v", ours, c)
		}
	}
	b.proven(m...)
	b.oneEach(m...)
}

func keys(m map[string]string) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// A flood is many strangers.
type flood struct {
	to   string
	all  sync.WaitGroup
	made atomic.Int64
}

// keep does something on one connection after the other.
func (f *flood) keep(ctx context.Context, do func(context.Context, net.Conn)) {
	for ctx.Err() == nil {
		c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", f.to)
		if err != nil {
			continue // its queue of connections is full
		}
		f.made.Add(1)
		done := context.AfterFunc(ctx, func() { c.Close() })
		do(ctx, c)
		done()
		c.Close()
	}
}

// drain reads until the other side has had enough.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

const post = "POST /v1/backup?backup_id=8bd2b617-daa5-4aa3-b199-e5d6bad361fb HTTP/1.1\r\nHost: " +
	"staffeln\r\nContent-Type: application/x-www-form-urlencoded\r\n"

// silent connects and says nothing.
func silent(_ context.Context, c net.Conn) { drain(c) }

// halfRequest says the beginning of a request.
func halfRequest(_ context.Context, c net.Conn) {
	_, _ = io.WriteString(c, post[:40])
	drain(c)
}

// drip writes something again and again, slowly.
func drip(ctx context.Context, c net.Conn, what string) {
	for ctx.Err() == nil {
		if _, err := io.WriteString(c, what); err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// slowHeaders is a slow loris.
func slowHeaders(ctx context.Context, c net.Conn) {
	_, _ = io.WriteString(c, post)
	drip(ctx, c, "X-Slow: loris\r\n")
}

// slowBody sends a body that was announced a byte at a time.
func slowBody(ctx context.Context, c net.Conn) {
	_, _ = io.WriteString(c, post+"Content-Length: 100000\r\n\r\n")
	drip(ctx, c, "a")
}

var large = bytes.Repeat([]byte("rule=a&"), 10_000)

// hugeBody sends as much as it is let.
func hugeBody(ctx context.Context, c net.Conn) {
	_, _ = io.WriteString(c, post+"Content-Length: 100000000000\r\n\r\n")
	for ctx.Err() == nil {
		if _, err := c.Write(large); err != nil {
			return
		}
	}
}

// endlessChunks sends a body without an end.
func endlessChunks(ctx context.Context, c net.Conn) {
	_, _ = io.WriteString(c, post+"Transfer-Encoding: chunked\r\n\r\n")
	for ctx.Err() == nil {
		if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", len(large), large); err != nil {
			return
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// garbage is no HTTP at all.
func garbage(_ context.Context, c net.Conn) {
	_, _ = c.Write(random(4096))
	drain(c)
}

// garbageBody is HTTP with nonsense in it, several times on one connection.
func garbageBody(ctx context.Context, c net.Conn) {
	for ctx.Err() == nil {
		body := random(2000)
		if _, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", post, len(body), body); err != nil {
			return
		}
		answer := make([]byte, 4096)
		n, err := c.Read(answer)
		if err != nil {
			return
		}
		if strings.Contains(string(answer[:n]), "True") {
			panic("nonsense is answered with True")
		}
	}
}

// unheard asks something that is answered, and does not read the answer.
func unheard(_ context.Context, c net.Conn) {
	_, _ = io.WriteString(c, strings.Repeat(post+"Content-Length: 0\r\n\r\n", 20))
}

// reset asks something, and breaks the connection.
func reset(_ context.Context, c net.Conn) {
	_, _ = io.WriteString(c, post+"Content-Length: 0\r\n\r\n")
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
