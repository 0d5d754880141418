package model

import (
	"strconv"
)

// OverVolumes says whether n more volumes of together gb GiB are too much.
// Source: cinder/quota_utils.py; gigabytes are found before volumes.
func (s *State) OverVolumes(p *Project, n, gb int) string {
	l := p.Limits(&s.Options)
	if l.Gigabytes >= 0 && p.Gigabytes+gb > l.Gigabytes {
		return "Requested volume or snapshot exceeds allowed gigabytes quota. Requested " +
			strconv.Itoa(gb) + "G, quota is " +
			strconv.Itoa(l.Gigabytes) + "G and " + strconv.Itoa(p.Gigabytes) + "G has been consumed."
	}
	if l.Volumes >= 0 && len(p.Volumes.Rows)+n > l.Volumes {
		return "Maximum number of volumes allowed (" + strconv.Itoa(l.Volumes) + ") exceeded for quota 'volumes'."
	}
	return ""
}

// Limits are a project's quota, or the default.
func (p *Project) Limits(o *Options) Quota {
	if p.Quota != nil {
		return *p.Quota
	}
	return *o.Quota
}
