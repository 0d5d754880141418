package backup

import "fmt"

// An Outlook is how much of what there is would be removed. Chains count as one
// each, however long, and a part of one as its share: a whole chain always goes
// at once, so that counted by backups a healthy regime would look like a disaster.
type Outlook struct {
	// Backups are the complete restore points of ours, Removals those to be removed.
	Backups  int `json:"b,omitempty"`
	Removals int `json:"r,omitempty"`
	// Chains and Losses are the same in thousandths of chains.
	Chains int `json:"c,omitempty"`
	Losses int `json:"l,omitempty"`
}

// Add is both together.
func (o Outlook) Add(p Outlook) Outlook {
	return Outlook{o.Backups + p.Backups, o.Removals + p.Removals, o.Chains + p.Chains, o.Losses + p.Losses}
}

// OutlookOf sums up decisions, of one volume or of many.
func OutlookOf(fates []Fate) Outlook {
	var o Outlook
	type chain struct{ all, lost int }
	chains := map[string]chain{}
	for _, f := range fates {
		if !f.Backup.Ours() || !settled(f.Backup) {
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

// A Brake stops removals that look like a mistake. The zero Brake holds back every
// removal.
type Brake struct {
	// Percent of the chains is what may go at once; 100 is no brake.
	Percent int
	// From is how many backups have to be about to go at least for it to be asked.
	From int
}

// Trips says whether the brake holds the removals back, and why.
func (b Brake) Trips(o Outlook) (bool, string) {
	if o.Removals < b.From || b.Percent >= 100 || o.Losses*100 <= b.Percent*o.Chains {
		return false, ""
	}
	return true, fmt.Sprintf("%d of %d backups would be removed, %d %% of all chains: the brake allows %d %%",
		o.Removals, o.Backups, (o.Losses*100+o.Chains-1)/max(o.Chains, 1), b.Percent)
}
