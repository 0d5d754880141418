package behaviour

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/ledger"
	"staffeln/testutil/services"
)

// digests are the settings with which they are sent, soon.
func (s *scene) digests(port int, with map[string]string) map[string]string {
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_REPORT_PERIOD": "10s",
		"STAFFELN_MAIL_CHANNELS": "smtp", "STAFFELN_MAIL_FROM": "Backups <backups@staffeln.test>",
		"STAFFELN_SMTP_HOST": "127.0.0.1", "STAFFELN_SMTP_PORT": strconv.Itoa(port), "STAFFELN_SMTP_TLS": "none",
	})
	for name, value := range with {
		env[name] = value
	}
	return env
}

// member makes a user with a role in the project, or with the role of a group in
// it. An address of "" is none.
func (p *project) member(name, address string, enabled, byGroup bool) {
	p.t.Helper()
	in := object{"name": p.name + "-" + name, "domain_id": "default", "password": password, "enabled": enabled}
	if address != "" {
		in["email"] = address
	}
	var user struct{ User struct{ ID string } }
	p.must(p.s.admin.call("POST", "identity", "/users", object{"user": in}, &user))
	p.s.remove("/users/" + user.User.ID)
	if !byGroup {
		p.must(p.s.admin.call("PUT", "identity", "/projects/"+p.id+"/users/"+user.User.ID+"/roles/"+p.s.memberRole(),
			nil, nil))
		return
	}
	var group struct{ Group struct{ ID string } }
	p.must(p.s.admin.call("POST", "identity", "/groups",
		object{"group": object{"name": p.name + "-" + name, "domain_id": "default"}}, &group))
	p.s.remove("/groups/" + group.Group.ID)
	p.must(p.s.admin.call("PUT", "identity", "/groups/"+group.Group.ID+"/users/"+user.User.ID, nil, nil))
	p.must(p.s.admin.call("PUT", "identity", "/projects/"+p.id+"/groups/"+group.Group.ID+"/roles/"+p.s.memberRole(),
		nil, nil))
}

func (s *scene) memberRole() string {
	s.t.Helper()
	var roles struct{ Roles []struct{ ID, Name string } }
	if err := s.admin.call("GET", "identity", "/roles", nil, &roles); err != nil {
		s.t.Fatal(err)
	}
	for _, r := range roles.Roles {
		if r.Name == "member" {
			return r.ID
		}
	}
	s.t.Fatal("the cloud has no role member")
	return ""
}

// remove removes something of Keystone's at the end.
func (s *scene) remove(path string) {
	s.t.Cleanup(func() {
		if err := s.admin.call("DELETE", "identity", path, nil, nil); err != nil {
			s.t.Logf("%s cannot be removed: %v", path, err)
		}
	})
}

// address gives the project's own user an e-mail address.
func (p *project) address(address string) {
	p.t.Helper()
	id, err := p.user.userID()
	p.must(err)
	p.must(p.s.admin.call("PATCH", "identity", "/users/"+id, object{"user": object{"email": address}}, nil))
}

// others are the addresses of those with a role in the project who are not of the
// scenario, such as by a role in all projects, as Keystone says. The program's own
// user is none of them.
func (p *project) others() []string {
	p.t.Helper()
	var out struct {
		Assignments []struct{ User struct{ ID string } } `json:"role_assignments"`
	}
	p.must(p.s.admin.call("GET", "identity", "/role_assignments?effective=True&scope.project.id="+p.id, nil, &out))
	var addresses []string
	for _, a := range out.Assignments {
		var user struct {
			User struct {
				Name, Email string
				Enabled     bool
			}
		}
		p.must(p.s.admin.call("GET", "identity", "/users/"+a.User.ID, nil, &user))
		if u := user.User; u.Enabled && u.Email != "" && u.Name != p.s.rights.env["OS_USERNAME"] &&
			!strings.Contains(u.Email, p.s.id) {
			addresses = append(addresses, u.Email)
		}
	}
	return addresses
}

// A letter is a mail that arrived, taken apart. HTML is without its tags, with
// single spaces.
type letter struct {
	to, id, list, subject string
	date                  time.Time
	text, html            string
}

func (l letter) same(m letter) bool {
	return l.subject == m.subject && l.date.Equal(m.date) && l.text == m.text && l.html == m.html && l.list == m.list
}

// tellsOfRuns says whether any run is told of.
func (l letter) tellsOfRuns() bool {
	return strings.Contains(l.text, "\nCOMPLETE\n") || strings.Contains(l.text, "\nFAILED\n")
}

var tags = regexp.MustCompile(`(?s)<style>.*?</style>|<[^>]*>`)

func openLetter(t *testing.T, m services.Mail) letter {
	t.Helper()
	bad := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("a mail to %v cannot be read: %v\n%s", m.To, err, m.Data)
		}
	}
	if len(m.To) != 1 {
		t.Fatalf("a mail for each was asked for, one goes to %v", m.To)
	}
	msg, err := mail.ReadMessage(strings.NewReader(m.Data))
	bad(err)
	h := msg.Header
	l := letter{to: m.To[0], id: h.Get("Message-ID"), list: h.Get("List-Id")}
	l.subject, err = new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	bad(err)
	l.date, err = h.Date()
	bad(err)
	if m.From != "backups@staffeln.test" || h.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("a mail is from %q, with Auto-Submitted: %q", m.From, h.Get("Auto-Submitted"))
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	bad(err)
	if kind != "multipart/alternative" {
		t.Fatalf("a mail is %s", kind)
	}
	for parts := multipart.NewReader(msg.Body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			return l
		}
		bad(err)
		body, err := io.ReadAll(part)
		bad(err)
		content := strings.ReplaceAll(string(body), "\r\n", "\n")
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			l.html = strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(content, " "))), " ")
		} else {
			l.text = content
		}
	}
}

// letters are those a server has taken so far, by address.
func letters(t *testing.T, servers ...*services.SMTPServer) map[string][]letter {
	t.Helper()
	all := map[string][]letter{}
	for _, server := range servers {
		for _, m := range server.Taken(t, 0) {
			l := openLetter(t, m)
			all[l.to] = append(all[l.to], l)
		}
	}
	return all
}

// quotaUsage is what Cinder says of a project's quotas, in the words of a digest.
func (p *project) quotaUsage() (backups, space string) {
	p.t.Helper()
	type usage struct {
		Limit, Reserved int
		Used            int `json:"in_use"`
	}
	var out struct {
		Set struct {
			Backups   usage
			Gigabytes usage `json:"backup_gigabytes"`
		} `json:"quota_set"`
	}
	p.must(p.s.admin.call("GET", "volumev3", "/os-quota-sets/"+p.id+"?usage=True", nil, &out))
	words := func(what, unit string, u usage) string {
		used := u.Used + u.Reserved
		if u.Limit < 0 {
			return fmt.Sprintf("%s: %d%s used, no limit", what, used, unit)
		}
		percent := (used*100 + u.Limit - 1) / u.Limit // never less than it is
		return fmt.Sprintf("%s: %d%s of %d%s used (%d %%)", what, used, unit, u.Limit, unit, percent)
	}
	return words("Backups", "", out.Set.Backups), words("Space", " GiB", out.Set.Gigabytes)
}

// toldRun is what a digest says of a complete run.
var toldRun = regexp.MustCompile(`^  (\S+) / (\S+): (\d+ GiB), (\w+), took (?:(\d+) s|(\d+) min), (.* UTC)$`)

const digestTime = "2 Jan 2006 15:04 MST"

// section are the lines below a title of the text part.
func (l letter) section(title string) []string {
	_, rest, ok := strings.Cut(l.text, "\n"+title+"\n")
	if !ok {
		return nil
	}
	rest, _, _ = strings.Cut(rest, "\n\n")
	return strings.Split(rest, "\n")
}

// checkDigest fails the test where a digest with runs says anything else than the
// API. All volumes are of one server.
func (p *project) checkDigest(l letter, server string, complete, failed int) {
	p.t.Helper()
	wrong := func(format string, args ...any) {
		p.t.Helper()
		p.t.Errorf("the digest of project %s to %s: %s\n%s", p.name, l.to, fmt.Sprintf(format, args...), l.text)
	}
	in := func(what string) {
		p.t.Helper()
		if !strings.Contains(strings.Join(strings.Fields(l.text), " "), what) {
			wrong("the text does not say %q", what)
		}
		if !strings.Contains(l.html, what) {
			wrong("the HTML does not say %q: %s", what, l.html)
		}
	}
	backups, space := p.quotaUsage()
	in(backups)
	in(space)

	rows := p.figures()
	if len(rows) != complete {
		wrong("Cinder has %d backups, want %d", len(rows), complete)
	}
	told := l.section("COMPLETE")
	if len(told) != complete {
		wrong("%d complete runs are told of, want %d", len(told), complete)
	}
	for _, b := range rows {
		v := p.volume(b.VolumeID)
		i := slices.IndexFunc(told, func(line string) bool { return strings.HasPrefix(line, "  "+server+" / "+v.Name+": ") })
		if i < 0 {
			wrong("nothing is said of volume %s", v.Name)
			continue
		}
		m := toldRun.FindStringSubmatch(told[i])
		if m == nil {
			wrong("what is said of volume %s cannot be read: %q", v.Name, told[i])
			continue
		}
		kind := "full"
		if b.Incremental {
			kind = "incremental"
		}
		if m[3] != fmt.Sprintf("%d GiB", b.Size) || m[4] != kind || b.Status != "available" || b.Size != v.Size {
			wrong("of volume %s it is said %q; Cinder has %+v", v.Name, told[i], b)
		}
		// The request is a moment older than what it made; the end is when it was seen.
		started, err := time.Parse(digestTime, m[7])
		created := made(p.t, b.backupRow)
		if err != nil || started.Before(created.Add(-2*time.Minute)) || started.After(created) {
			wrong("volume %s was begun at %q; Cinder says %s", v.Name, m[7], b.CreatedAt)
		}
		updated, err := time.Parse("2006-01-02T15:04:05.999999", b.UpdatedAt)
		if seconds, minutes := number(m[5]), number(m[6]); err != nil ||
			time.Duration(seconds+2)*time.Second+time.Duration(minutes)*time.Minute+
				time.Duration(min(minutes, 1))*30*time.Second < updated.Sub(created) {
			wrong("volume %s took %q; with Cinder from %s to %s", v.Name, told[i], b.CreatedAt, b.UpdatedAt)
		}
		_, rest, _ := strings.Cut(told[i], ": ")
		in(rest)
		if want := server + " / " + v.Name + " Complete " + m[3] + ", " + m[4]; !strings.Contains(l.html, want) {
			wrong("the HTML does not say %q: %s", want, l.html)
		}
	}
	words := fmt.Sprintf("%d backups complete", complete)
	switch {
	case complete == 1 && failed == 0:
		words = "1 backup complete"
	case failed > 0:
		words = fmt.Sprintf("%d of %d backups failed", failed, complete+failed)
	}
	if l.subject != p.name+": "+words {
		wrong("the subject is %q, want %q", l.subject, p.name+": "+words)
	}
	in("Backups of project " + p.name)
	if (len(l.section("FAILED")) > 0) != (failed > 0) {
		wrong("told of as failed: %q", l.section("FAILED"))
	}
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// messageID is what the one digest of a period to an address must have.
func messageID(p *project, l letter) string {
	sum := sha256.Sum256([]byte(p.id + "@" + l.date.UTC().Format("20060102T150405Z") + "/" + l.to))
	return "<" + hex.EncodeToString(sum[:16]) + "@staffeln.test>"
}

func digestsAreRight(s *scene) {
	plain, grouped := s.project(object{"backups": 10, "backup_gigabytes": 30}), s.project(nil)
	over := s.project(object{"backups": 1, "backup_gigabytes": 3})
	at := func(name string) string { return name + "@" + s.id + ".example" }
	plain.address(at("owner"))
	plain.member("without", "", true, false)
	plain.member("disabled", at("disabled"), false, false)
	grouped.member("direct", at("direct"), true, false)
	grouped.member("by-group", at("by-group"), true, true)
	over.address(at("over"))
	owners := map[string]*project{at("owner"): plain, at("direct"): grouped, at("by-group"): grouped, at("over"): over}

	// The runs and reasons are those of one opting in.
	var scratch string
	var making sync.WaitGroup
	for p, volumes := range map[*project][]string{plain: {"data", "logs", "scratch"}, grouped: {"one"}, over: {"a", "b"}} {
		making.Go(func() {
			ids := p.volumes(volumes...)
			if p == plain {
				scratch = ids[2]
				p.skip(scratch)
				ids = append(ids, p.sized("big", 2))
			}
			p.optIn(p.server("server", false, ids...))
		})
	}
	making.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}

	// Of one project the program believes that there is room, until Cinder itself
	// refuses.
	s.front.on(func(r *request) act {
		refused := slices.ContainsFunc(s.front.seen, func(r *request) bool { return r.create() && r.Status == 413 })
		if !refused && strings.Contains(r.Path, "/os-quota-sets/"+over.id) {
			return act{Edit: func(body []byte) []byte { return edited(s.t, body, 100, "quota_set", "backups", "limit") }}
		}
		return act{}
	})
	post := services.SMTP(s.t)
	run := s.start(s.digests(post.Port, map[string]string{"STAFFELN_INCLUDE_PROJECTS": only(plain, grouped, over)}))

	plain.until(4*time.Minute, "everybody is told of runs, and of a period after that", func() string {
		all := letters(s.t, post)
		for address := range owners {
			if i := slices.IndexFunc(all[address], letter.tellsOfRuns); i < 0 || i+1 == len(all[address]) {
				return fmt.Sprintf("%s has %d letters, that of runs is number %d", address, len(all[address]), i+1)
			}
		}
		return ""
	})
	if err := run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}

	others := plain.others()
	var reason string
	all := letters(s.t, post)
	for address, got := range all {
		p := owners[address]
		if p == nil {
			if !slices.Contains(others, address) {
				s.t.Errorf("%d mails went to %s", len(got), address)
			}
			continue
		}
		periods := map[time.Time]bool{}
		for _, l := range got {
			if periods[l.date.UTC()] || !l.date.Equal(l.date.Truncate(10*time.Second)) {
				s.t.Errorf("%s has another mail on the period that ended %s", address, l.date)
			}
			periods[l.date.UTC()] = true
			if want := messageID(p, l); l.id != want || !strings.HasPrefix(l.list, "<"+p.id+".") {
				s.t.Errorf("a mail to %s has Message-ID %s and List-Id %s, want %s and the project's", address, l.id, l.list, want)
			}
		}
		got = slices.DeleteFunc(got, func(l letter) bool { return !l.tellsOfRuns() })
		if len(got) != 1 {
			s.t.Errorf("%s is told of runs in %d mails: %+v", address, len(got), got)
			continue
		}
		l := got[0]
		switch p {
		case plain:
			p.checkDigest(l, "server", 3, 0)
			if not := l.section("NOT PROTECTED"); len(not) == 0 ||
				not[0] != "  server / scratch: volume metadata skip-volume-backup=true" {
				s.t.Errorf("what is not protected: %q", not)
			}
			if len(p.backupsOf(scratch)) > 0 || !strings.Contains(l.text, "\n3 volumes protected\n") ||
				!strings.Contains(l.html, " 3 volumes protected.") {
				s.t.Errorf("of what is protected it is said:\n%s", l.text)
			}
		case grouped:
			p.checkDigest(l, "server", 1, 0)
		case over:
			p.checkDigest(l, "server", 1, 1)
			if reason == "" {
				reason = p.refusal()
			}
			p.checkFailure(l, reason)
		}
	}
	for address := range owners {
		if len(all[address]) == 0 {
			s.t.Errorf("%s has no mail", address)
		}
	}
	if a, b := all[at("direct")], all[at("by-group")]; len(a) > 0 && len(b) > 0 && a[0].date.Equal(b[0].date) &&
		!a[0].same(b[0]) {
		s.t.Errorf("members of one project are told differently:\n%s\n%s", a[0].text, b[0].text)
	}
}

// A figured is a backup with the figures that a digest has of it.
type figured struct {
	backupRow
	Size      int
	UpdatedAt string `json:"updated_at"`
}

func (p *project) figures() []figured {
	p.t.Helper()
	var out struct{ Backups []figured }
	p.must(p.user.call("GET", "volumev3", "/backups/detail", nil, &out))
	return out.Backups
}

// sized makes a volume that is larger than others.
func (p *project) sized(name string, gib int) string {
	p.t.Helper()
	var out struct{ Volume volume }
	p.must(p.user.call("POST", "volumev3", "/volumes", object{"volume": object{"name": name, "size": gib}}, &out))
	p.until(time.Minute, "volume "+name+" is available", func() string {
		return wants("available", p.volume(out.Volume.ID).Status)
	})
	return out.Volume.ID
}

// refusal is what Cinder tells a tenant who asks for one backup more than there is
// room for.
func (p *project) refusal() string {
	p.t.Helper()
	v := p.backups()[0].VolumeID
	err := p.user.call("POST", "volumev3", "/backups",
		object{"backup": object{"volume_id": v, "name": "one more", "force": true}}, nil)
	r, ok := err.(*refusal)
	if !ok || r.status != 413 {
		p.t.Fatalf("one more backup than there is room for: %v", err)
	}
	return r.message
}

// checkFailure fails the test where the owner is not told of the one volume without
// a backup, with Cinder's reason.
func (p *project) checkFailure(l letter, reason string) {
	p.t.Helper()
	var volumes struct{ Volumes []volume }
	p.must(p.user.call("GET", "volumev3", "/volumes/detail", nil, &volumes))
	done := p.backups()[0]
	for _, v := range volumes.Volumes {
		if v.ID == done.VolumeID {
			continue
		}
		_, stamp, _ := strings.Cut(done.run(), "@") // one schedule, without spread: that of both
		slot, err := time.Parse("20060102T150405Z", stamp)
		p.must(err)
		failed := strings.Join(l.section("FAILED"), "\n")
		planned := fmt.Sprintf("%d GiB, full, planned for %s", v.Size, slot.Format(digestTime))
		want := regexp.MustCompile(`^  server / ` + v.Name + `: .*` + regexp.QuoteMeta(reason) +
			`.*\n    You can mend this\.\n    ` + regexp.QuoteMeta(planned) + `$`)
		if !want.MatchString(failed) {
			p.t.Errorf("of the failure it is said\n%s\nwant it to be of volume %s, %q, and\n%s", failed, v.Name, reason, planned)
		}
		for _, part := range []string{"server / " + v.Name + " Failed ", reason, "You can mend this. " + planned} {
			if !strings.Contains(l.html, part) {
				p.t.Errorf("the HTML does not say %q: %s", part, l.html)
			}
		}
		if !strings.Contains(l.text, "1 failure needs you to act") ||
			!strings.Contains(l.html, "1 failure needs you to act") {
			p.t.Errorf("it is not said that the owner can act:\n%s", l.text)
		}
	}
}

// A postOffice stands between the program and a mail server, which can be another
// one at any time. It knows which letters the program was told to have been taken.
type postOffice struct {
	port int

	mu   sync.Mutex
	to   int // the port of the server
	hook func(step string) bool
	// taken counts the answers that reached the program in good time, by address and
	// Message-ID.
	taken map[string]int
}

// The steps of a letter that a hook is asked at: the program has connected, and the
// server has answered that it has taken the letter, which the program does not know
// yet. Where the hook says so the connection is cut. A hook must not call the
// office.
const (
	connected = "connected"
	answered  = "answered"
)

func openPostOffice(t *testing.T) *postOffice {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &postOffice{port: l.Addr().(*net.TCPAddr).Port, taken: map[string]int{}}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go o.pass(in)
		}
	}()
	t.Cleanup(func() { l.Close() })
	return o
}

// server has letters go to another server from now on.
func (o *postOffice) server(s *services.SMTPServer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = s.Port
}

// on has the hook asked from now on; nil is none.
func (o *postOffice) on(hook func(step string) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hook = hook
}

func (o *postOffice) cut(step string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hook != nil && o.hook(step)
}

// mailTimeout is the program's. An answer that comes within half of it
// is known to have been heard.
const mailTimeout = 4 * time.Second

var (
	receiver = regexp.MustCompile(`(?i)\r\nRCPT TO:<([^>]*)>`)
	mailID   = regexp.MustCompile(`(?i)\r\nMessage-ID: *(<[^>]*>)`)
)

func (o *postOffice) pass(in net.Conn) {
	defer in.Close()
	start := time.Now()
	if o.cut(connected) {
		return
	}
	o.mu.Lock()
	to := o.to
	o.mu.Unlock()
	out, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
	if err != nil {
		return
	}
	defer out.Close()
	var mu sync.Mutex
	var said []byte // by the program
	go func() {
		defer out.Close()
		for buf := make([]byte, 64<<10); ; {
			n, err := in.Read(buf)
			mu.Lock()
			said = append(said, buf[:n]...)
			mu.Unlock()
			if _, werr := out.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	ended := false
	for buf := make([]byte, 64<<10); ; {
		n, err := out.Read(buf)
		if n == 0 && err != nil {
			return
		}
		mu.Lock()
		letter := bytes.Clone(said)
		mu.Unlock()
		if !ended && bytes.Contains(letter, []byte("\r\n.\r\n")) {
			ended = true
			took := bytes.HasPrefix(buf[:n], []byte("250"))
			if took && o.cut(answered) {
				return
			}
			to, id := receiver.FindSubmatch(letter), mailID.FindSubmatch(letter)
			if _, err := in.Write(buf[:n]); err != nil {
				return
			}
			if took && to != nil && id != nil && time.Since(start) < mailTimeout/2 {
				o.mu.Lock()
				o.taken[string(to[1])+" "+string(id[1])]++
				o.mu.Unlock()
			}
			continue
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// reporting is what the ledger remembers of the project's digests.
func (p *project) reporting() backup.Reporting {
	p.t.Helper()
	l := ledger.New(p.s.redis.Client(), ledger.Options{})
	all, err := l.Reports(p.t.Context(), l.Shard(p.id))
	p.must(err)
	r := all[p.id]
	r.Project = p.id
	return r
}

// hurry has a digest that is to be tried again later be tried now. Nobody may be
// sending it meanwhile.
func (p *project) hurry() {
	p.t.Helper()
	l := ledger.New(p.s.redis.Client(), ledger.Options{})
	p.until(10*time.Second, "the digest is tried again", func() string {
		r := p.reporting()
		if r.Pending == nil {
			return ""
		}
		r.Pending.Again = time.Now().Add(-time.Second)
		saved, err := l.SaveReport(p.t.Context(), r, false)
		p.must(err)
		if !saved { // what a killed program asked for last
			return "somebody else has written"
		}
		return ""
	})
}

// impatient is a condition that hurries digests whenever they have been put off.
func (p *project) impatient(ok func() string) func() string {
	seen := ""
	return func() string {
		why := ok()
		r := p.reporting()
		if r.Pending == nil || r.Pending.Tries == 0 || why == "" {
			return why
		}
		// One that is being sent belongs to its sender for longer.
		key := fmt.Sprint(r.Pending.Digest.ID, r.Pending.Tries)
		if wait := time.Until(r.Pending.Again); key != seen && wait > 0 && wait < 9*time.Minute {
			seen = key
			p.hurry()
		}
		return fmt.Sprintf("%s (digest %s was tried %d times: %s)", why, r.Pending.Digest.ID, r.Pending.Tries, r.Pending.Why)
	}
}

// plainRuns names each run of a digest, and keeps the HTML that is built in.
const plainRuns = `{{range .Runs}}{{if .OK}}run{{else}}failed{{end}} ` +
	`{{.VolumeID}}@{{.Slot.UTC.Format "20060102T150405Z"}}
{{end}}{{range .More}}{{.}} more
{{end}}`

func digestsOnce(s *scene) {
	p := s.project(nil)
	first, second := "a@"+s.id+".example", "b@"+s.id+".example"
	p.address(first)
	p.member("second", second, true, true)
	servers, v := p.machines("one")
	p.optIn(servers[0])
	templates := s.t.TempDir()
	p.must(os.WriteFile(filepath.Join(templates, "digest.txt"), []byte(plainRuns), 0o600))

	office := openPostOffice(s.t)
	hangs, cuts := services.SMTP(s.t, "--hang", "connect"), services.SMTP(s.t, "--cut", "100", "--keep")
	greylists := services.SMTP(s.t, "--greylist", "1")
	office.server(hangs)
	env := s.digests(office.port, map[string]string{
		"STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_BACKUP_PERIOD": s.cloud.beat.String(),
		"STAFFELN_FULL_BACKUP_DEPTH": "1000",
		"STAFFELN_REPORT_PERIOD":     "5s",
		"STAFFELN_TEMPLATES":         templates,
	})
	run := s.start(env, impatient)

	// One digest, which is the same however often it is tried.
	p.until(2*time.Minute, "a digest is tried with a server that hangs", p.tried(1))
	digest := p.reporting().Pending.Digest.ID
	office.server(cuts)
	p.hurry()
	p.until(time.Minute, "it is tried with a server that cuts the connection before its answer", p.tried(2))
	office.server(greylists)
	p.hurry()
	p.until(time.Minute, "it is tried with a server that greylists", p.tried(3))
	p.hurry()
	p.until(2*time.Minute, "it is told", p.impatient(func() string {
		if r := p.reporting(); r.Pending != nil && r.Pending.Digest.ID == digest {
			return "it is not"
		}
		return ""
	}))

	// Killed before the first letter of a digest, with the answer to it on its way, and
	// before the second.
	for _, kill := range []struct {
		step   string
		number int
	}{{connected, 1}, {answered, 1}, {connected, 2}, {answered, 2}} {
		p.until(time.Minute, "no digest is on its way", p.impatient(func() string {
			if r := p.reporting(); r.Pending != nil {
				return "digest " + r.Pending.Digest.ID + " is"
			}
			return ""
		}))
		killed := make(chan struct{})
		n := 0
		office.on(func(step string) bool {
			if step != kill.step {
				return false
			}
			if n++; n == kill.number {
				run.kill()
				close(killed)
			}
			return n == kill.number
		})
		await(p, killed, 2*time.Minute, fmt.Sprintf("letter %d is %s", kill.number, kill.step))
		office.on(nil)
		p.hurry()
		run.launch()
		run.ready()
	}

	p.until(3*time.Minute, "there are three runs", p.impatient(func() string {
		if n := len(p.backups()); n < 3 {
			return fmt.Sprintf("there are %d", n)
		}
		return ""
	}))

	// No more runs; those there were are told of.
	if err := run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}
	env["STAFFELN_BACKUP_PERIOD"] = s.settings(nil)["STAFFELN_BACKUP_PERIOD"]
	run = s.start(env, impatient)
	want := map[string]bool{}
	p.until(3*time.Minute, "everybody is told of all runs", p.impatient(func() string {
		rows := p.backups()
		for _, b := range rows {
			if b.Status != "available" {
				return b.ID + " is " + b.Status
			}
			want[b.run()] = true
		}
		all := letters(s.t, cuts, greylists)
		for _, address := range []string{first, second} {
			told := ""
			for _, l := range all[address] {
				told += l.text
			}
			for run := range want {
				if !strings.Contains(told, "run "+run+"\n") {
					return fmt.Sprintf("%s is not told of %s", address, run)
				}
			}
		}
		return ""
	}))
	last := p.reporting().Last
	p.until(time.Minute, "two more periods are told", p.impatient(func() string {
		if r := p.reporting(); r.Last.Before(last.Add(10 * time.Second)) {
			return "told until " + r.Last.String()
		}
		return ""
	}))
	if err := run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}
	p.checkOnceEach(office, want, letters(s.t, cuts, greylists), append(p.others(), first, second))
	for address, got := range letters(s.t, cuts) {
		if messageID := got[0].id; len(got) != 1 ||
			!slices.ContainsFunc(letters(s.t, greylists)[address], func(l letter) bool { return l.id == messageID }) {
			s.t.Errorf("%s has %d letters from the server that cuts, which is asked once, and none of them again",
				address, len(got))
		}
	}
	if n := len(letters(s.t, cuts)); n < 2 {
		s.t.Errorf("the server that cuts was asked for %d people", n)
	}
	if len(want) < 3 {
		s.t.Errorf("there were only %d runs of volume %s to tell of", len(want), v[0])
	}
}

// tried is the condition that a digest has been tried in vain so often, and
// waits for its next try.
func (p *project) tried(tries int) func() string {
	return func() string {
		r := p.reporting()
		switch {
		case r.Pending == nil:
			return "none is on its way"
		case r.Pending.Tries < tries, time.Until(r.Pending.Again) > 9*time.Minute: // its sender's
			return fmt.Sprintf("it was tried %d times", r.Pending.Tries)
		}
		return ""
	}
}

// checkOnceEach fails the test where a run is in none or several of the digests to
// an address, or where a letter came again that was known to have been taken, or in
// other words.
func (p *project) checkOnceEach(office *postOffice, want map[string]bool, all map[string][]letter, addresses []string) {
	p.t.Helper()
	for address, got := range all {
		if !slices.Contains(addresses, address) {
			p.t.Errorf("%d mails went to %s", len(got), address)
		}
		by, in := map[string]letter{}, map[string]string{}
		for _, l := range got {
			if first, again := by[l.id]; again {
				if !first.same(l) {
					p.t.Errorf("%s came twice to %s, in other words:\n%s%s\n%s%s", l.id, address, first.text,
						first.html, l.text, l.html)
				}
				continue
			}
			by[l.id] = l
			if id := messageID(p, l); l.id != id {
				p.t.Errorf("the digest until %s to %s is %s, want %s", l.date, address, l.id, id)
			}
			lines := strings.Fields(strings.ReplaceAll(l.text, " ", "/"))
			for _, line := range lines {
				run, ok := strings.CutPrefix(line, "run/")
				if !ok || !want[run] {
					p.t.Errorf("%s is told %q in %s", address, line, l.id)
				}
				if in[run] != "" {
					p.t.Errorf("%s is told of %s in %s and in %s", address, run, in[run], l.id)
				}
				in[run] = l.id
			}
			if n := strings.Count(l.html, " Complete "+"1 GiB, "); n != len(lines) {
				p.t.Errorf("the HTML of %s tells of %d runs, the text of %d: %s", l.id, n, len(lines), l.html)
			}
		}
		for run := range want {
			if in[run] == "" {
				p.t.Errorf("%s is not told of %s", address, run)
			}
		}
	}
	office.mu.Lock()
	defer office.mu.Unlock()
	for letter, n := range office.taken {
		if n > 1 {
			p.t.Errorf("%s was sent %d times, though it had been taken", letter, n)
		}
	}
	if len(office.taken) == 0 {
		p.t.Error("not one letter was taken in time")
	}
}
