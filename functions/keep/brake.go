package keep

import (
	"fmt"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// OutlookOf sums up decisions, of one volume or of many.
func OutlookOf(fates []Fate) backup.Outlook {
	var o backup.Outlook
	type chain struct{ all, lost int }
	chains := map[string]chain{}
	for _, f := range fates {
		if !f.Backup.Ours() || !complete(f.Backup) {
			continue
		}
		c := chains[f.Chain]
		c.all++
		o.Backups++
		if !f.Keep {
			c.lost++
			o.Removals++
		}
		chains[f.Chain] = c
	}
	for _, c := range chains {
		o.Chains += 1000
		o.Losses += 1000 * c.lost / c.all
	}
	return o
}

// The names of the two brakes. The word for why nothing is removed ([backup.Retention.Held]) begins
// with one of them.
const (
	ProjectBrake = "brake"
	CloudBrake   = "cloud brake"
)

// A Braking is what a brake decides by: that of one project, or that of the whole cloud.
type Braking struct {
	// Name is [ProjectBrake] or [CloudBrake].
	Name    string
	Brake   backup.Brake
	Outlook backup.Outlook
	// Released is until when the operator has released the brake, for at most Most removals.
	Released time.Time
	Most     int
}

// OfProject is the brake of a project, which would lose what o says.
func OfProject(b backup.Brake, r backup.Retention, o backup.Outlook) Braking {
	return Braking{ProjectBrake, b, o, r.Released, r.Most}
}

// OfCloud is the brake of the whole cloud: it takes twice as many removals to be asked.
func OfCloud(b backup.Brake, o backup.Outlook, released time.Time, most int) Braking {
	b.From *= 2
	return Braking{CloudBrake, b, o, released, most}
}

// Trips says why the removals look like a mistake; "" if they do not.
func (b Braking) Trips() string {
	o, percent := b.Outlook, b.Brake.Percent
	if o.Removals < b.Brake.From || percent >= 100 || o.Losses*100 <= percent*o.Chains {
		return ""
	}
	return fmt.Sprintf("%d of %d backups would be removed, %d %% of all chains: the brake allows %d %%",
		o.Removals, o.Backups, (o.Losses*100+o.Chains-1)/max(o.Chains, 1), percent)
}

// Ask says why the brake holds removals back, "" if it does not, and whether the operator has
// released it for as many removals as there are. held is why nothing was removed at the last look
// ([backup.Retention.Held]). A brake that has begun to hold goes on until it is released, or until
// too few removals are left: new backups do not make a suspicious removal safe.
func (b Braking) Ask(held string, now time.Time) (why string, released bool) {
	why = b.Trips()
	if was, said, _ := strings.Cut(held, ": "); why == "" && was == b.Name && b.Outlook.Removals >= b.Brake.From {
		why = said
	}
	return why, why != "" && now.Before(b.Released) && b.Outlook.Removals <= b.Most
}

// Braked asks the brake of a project and then that of the whole cloud: it returns the name of the
// one that holds the project's removals back, and why; "" if neither does. A project that loses no
// restore point is not asked about.
func Braked(project, cloud Braking, held string, now time.Time) (name, why string) {
	if project.Outlook.Removals == 0 {
		return "", ""
	}
	for _, b := range []Braking{project, cloud} {
		if why, released := b.Ask(held, now); why != "" && !released {
			return b.Name, why
		}
	}
	return "", ""
}
