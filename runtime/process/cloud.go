package process

import (
	"fmt"
	"log/slog"
	"time"

	"staffeln/runtime/ledger"
	"staffeln/runtime/openstack"
)

// CloudOptions returns what the settings say about OpenStack. The caller adds what a
// process has besides: a witness, a limiter, metrics.
func (s Settings) CloudOptions(log *slog.Logger) openstack.Options {
	o := s.Cloud
	o.Rights, o.Timeout, o.UserAgent = openstack.Rights(s.Rights), s.APITimeout, "staffeln"
	o.IncludeProjects, o.ExcludeProjects = s.IncludeProjects, s.ExcludeProjects
	o.IncludeDomains, o.ExcludeDomains = s.IncludeDomains, s.ExcludeDomains
	o.Makers, o.Log = s.PolicyUsers, log
	return o
}

// cloudOptions adds what a running service has: the ledger as witness where there is one,
// the limit that all processes share, and metrics.
func (p *Process) cloudOptions() openstack.Options {
	o := p.Settings.CloudOptions(p.Log)
	if p.Ledger != nil {
		o.Witness = p.Ledger
	}
	if p.Redis != nil {
		o.Limiter = ledger.NewLimiter(p.Redis, p.Settings.APIRate)
	}
	o.Observe = func(op string, status int, took time.Duration) {
		p.Metrics.Count("openstack_requests_total", 1, op, fmt.Sprint(status))
		p.Metrics.Seconds("openstack_seconds", took, op)
	}
	return o
}
