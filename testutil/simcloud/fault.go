package simcloud

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/cinder"
	"staffeln/testutil/simcloud/model"
)

// Refused answers a status with one of OpenStack's error bodies, and carries
// nothing out.
func Refused(status int, message string) *Fault {
	return &Fault{Refuse: true, Status: status, Body: string(api.ErrorBody(status, message))}
}

// TooMany is 429 with a Retry-After of whole seconds.
func TooMany(after time.Duration) *Fault {
	f := Refused(http.StatusTooManyRequests, "This request was rate-limited.")
	f.Header = http.Header{"Retry-After": {seconds(after)}}
	return f
}

// Hung answers nothing until the client gives up.
func Hung() *Fault { return &Fault{Hang: true} }

// Lost carries the request out and cuts the connection: the answer is lost after
// acceptance.
func Lost() *Fault { return &Fault{Cut: true} }

// Unheard cuts the connection and carries nothing out.
func Unheard() *Fault { return &Fault{Refuse: true, Cut: true} }

// Delayed carries the request out, and answers it, after a real time; a client
// that gives up before does not stop it.
func Delayed(wait time.Duration) *Fault { return &Fault{Wait: wait} }

// Later cuts the connection now and carries the request out when the cloud's time
// has advanced.
func Later(after time.Duration) *Fault { return &Fault{Late: after, Cut: true} }

// Page answers with a proxy's HTML page, and carries nothing out.
func Page(status int) *Fault {
	return &Fault{Refuse: true, Status: status, Header: http.Header{"Content-Type": {"text/html"}},
		Body: "<html><head><title>" + http.StatusText(status) + "</title></head>\r\n<body><center><h1>" +
			http.StatusText(status) + "</h1></center><hr><center>nginx</center></body></html>\r\n"}
}

// Truncated carries the request out and ends the answer half way.
func Truncated() *Fault { return &Fault{Truncate: true} }

// Emptied carries the request out and answers 200 with nothing.
func Emptied() *Fault { return &Fault{Status: 200, Empty: true} }

// Short leaves the last k items out of a list, without a word: what Nova does
// when one of its cells does not answer.
func Short(k int) *Fault { return &Fault{Drop: k} }

// SetInject replaces [Options.Inject]; nil breaks nothing.
func (c *Cloud) SetInject(f func(r *http.Request, op string) *Fault) {
	c.injectMu.Lock()
	defer c.injectMu.Unlock()
	c.inject = f
}

// FailNextBackup makes the next backup of a volume end in error with that
// reason. Said twice, it fails the next two.
func (c *Cloud) FailNextBackup(volume, reason string) {
	c.do(func(s *model.State, _ time.Time) { s.FailNext[volume] = append(s.FailNext[volume], reason) })
}

// FailBackups makes every backup for whose volume f has a reason end in error;
// nil fails none. f must not call the cloud.
func (c *Cloud) FailBackups(f func(volume string) string) {
	c.do(func(s *model.State, _ time.Time) { s.FailBackup = f })
}

// AddBackupService adds a cinder-backup service on a host. A cloud starts with
// one, on "sim".
func (c *Cloud) AddBackupService(host string) {
	c.do(func(s *model.State, now time.Time) {
		s.Services = append(s.Services, &model.Service{Binary: "cinder-backup", Host: host, Updated: now, Up: true})
	})
}

// SetBackupService starts or stops the cinder-backup service on a host; "" is all
// of them. Cinder notices [Options.DownTime] later that one is down. Backups it
// was making stay as they are until it is up again, and are then in error.
func (c *Cloud) SetBackupService(host string, up bool) {
	c.do(func(s *model.State, now time.Time) { cinder.SetService(s, host, up, now) })
}

// CinderRestarted restarts cinder-backup: what it was making is in error, what it
// was restoring is available again, and nobody is told.
func (c *Cloud) CinderRestarted() {
	c.do(func(s *model.State, now time.Time) { cinder.RestartServices(s, now) })
}

// FullNextBackup makes the next incremental backup of a volume turn out to be a
// full one, as the Ceph driver does where it cannot find its parent's snapshot.
func (c *Cloud) FullNextBackup(volume string) {
	c.do(func(s *model.State, _ time.Time) { s.FullNext[volume]++ })
}

// seconds is a duration in whole seconds, rounded up.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
