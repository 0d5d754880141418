package nova

import (
	"encoding/json"
	"fmt"
	"strings"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// serverJSON is a server as the API tells it. Source: nova/api/openstack/compute/
// views/servers.py. What is there only in some cases is a pointer, or kept apart.
type serverJSON struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     string            `json:"status"`
	Tenant     string            `json:"tenant_id"`
	User       string            `json:"user_id"`
	Metadata   map[string]string `json:"metadata"`
	HostID     string            `json:"hostId"`
	Image      any               `json:"image"`
	Flavor     any               `json:"flavor"`
	Created    string            `json:"created"`
	Updated    string            `json:"updated"`
	Addresses  struct{}          `json:"addresses"`
	IPv4       string            `json:"accessIPv4"`
	IPv6       string            `json:"accessIPv6"`
	Links      []api.Link        `json:"links"`
	DiskConfig string            `json:"OS-DCF:diskConfig"`
	Progress   *int              `json:"progress,omitempty"`
	Fault      *faultJSON        `json:"fault,omitempty"`
	Zone       string            `json:"OS-EXT-AZ:availability_zone"`
	Drive      string            `json:"config_drive"`
	Key        *string           `json:"key_name"`
	Launched   *string           `json:"OS-SRV-USG:launched_at"`
	Terminated *string           `json:"OS-SRV-USG:terminated_at"`
	Task       *string           `json:"OS-EXT-STS:task_state"`
	State      string            `json:"OS-EXT-STS:vm_state"`
	Power      int               `json:"OS-EXT-STS:power_state"`
	Volumes    []volumeRef       `json:"os-extended-volumes:volumes_attached"`

	Locked   *bool            `json:"locked,omitempty"`                     // from 2.9
	Reason   *json.RawMessage `json:"locked_reason,omitempty"`              // 2.73
	About    *json.RawMessage `json:"description,omitempty"`                // 2.19
	Tags     *[]string        `json:"tags,omitempty"`                       // 2.26
	Trusted  *json.RawMessage `json:"trusted_image_certificates,omitempty"` // 2.63
	Groups   *[]string        `json:"server_groups,omitempty"`              // 2.71, of one server
	Hostname string           `json:"OS-EXT-SRV-ATTR:hostname,omitempty"`   // 2.90, for admins 2.3

	*serverAdminJSON
	*serverAdmin3JSON
	HostStatus *string `json:"host_status,omitempty"` // for admins, from 2.16
}

// serverAdminJSON and serverAdmin3JSON, from 2.3, are for admins.
type serverAdminJSON struct {
	Host       string `json:"OS-EXT-SRV-ATTR:host"`
	Hypervisor string `json:"OS-EXT-SRV-ATTR:hypervisor_hostname"`
	Instance   string `json:"OS-EXT-SRV-ATTR:instance_name"`
}

type serverAdmin3JSON struct {
	Reservation string  `json:"OS-EXT-SRV-ATTR:reservation_id"`
	LaunchIndex int     `json:"OS-EXT-SRV-ATTR:launch_index"`
	Kernel      string  `json:"OS-EXT-SRV-ATTR:kernel_id"`
	Ramdisk     string  `json:"OS-EXT-SRV-ATTR:ramdisk_id"`
	Root        string  `json:"OS-EXT-SRV-ATTR:root_device_name"`
	UserData    *string `json:"OS-EXT-SRV-ATTR:user_data"`
}

type faultJSON struct {
	Code    int    `json:"code"`
	Created string `json:"created"`
	Message string `json:"message"`
}

type volumeRef struct {
	ID          string `json:"id"`
	DeleteOnEnd *bool  `json:"delete_on_termination,omitempty"` // from 2.3
}

type linked struct {
	ID    string     `json:"id"`
	Links []api.Link `json:"links"`
}

// flavorJSON is the flavor inside a server, from 2.47.
type flavorJSON struct {
	VCPUs     int      `json:"vcpus"`
	RAM       int      `json:"ram"`
	Disk      int      `json:"disk"`
	Ephemeral int      `json:"ephemeral"`
	Swap      int      `json:"swap"`
	Name      string   `json:"original_name"`
	Extra     struct{} `json:"extra_specs"`
}

func rawOrNull(s string) *json.RawMessage {
	if s == "" {
		return &api.JSONNull
	}
	v := json.RawMessage(api.Encode(s))
	return &v
}

func serverView(s *model.State, q *api.Request, v *model.ServerRow, show bool) any {
	admin := q.Token.Admin()
	bookmarks := strings.Replace(novaBase(s, q), api.ComputePath, "/compute", 1)
	out := &serverJSON{ID: v.ID, Name: v.Name, Status: v.Status, Tenant: v.Project.ID, User: v.User, Metadata: v.Metadata,
		HostID: "8800239c8457ee629aefd50c1503366561a91196b2bca5b16a7070ac", Image: "",
		Created: novaAt(v.Created), Updated: novaAt(v.Updated), Links: serverLinks(s, q, v.ID), DiskConfig: "MANUAL",
		Zone:     "nova",
		Launched: api.CinderAt(v.Launched), Terminated: api.CinderAt(v.Terminated), Task: api.OrNull(v.Task),
		State: v.VMState(), Power: v.Power(),
		Volumes: make([]volumeRef, 0, len(v.Attached))}
	if v.Image != "" {
		out.Image = linked{v.Image, []api.Link{{Rel: "bookmark", Href: bookmarks + "/images/" + v.Image}}}
	}
	if v.Status == "BUILD" || v.Launched.IsZero() {
		out.Zone, out.HostID = "", ""
	}
	switch v.Status {
	case "ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING", "PASSWORD":
		out.Progress = new(int)
	case "SHELVED_OFFLOADED":
		out.Zone = ""
	case "ERROR":
		out.Fault = &faultJSON{500, novaAt(v.Updated), "No valid host was found. "}
	}
	out.Flavor = flavorJSON{VCPUs: 1, RAM: 64, Disk: 1, Name: model.FlavorName}
	if q.Version < 47 {
		out.Flavor = linked{v.Flavor, []api.Link{{Rel: "bookmark", Href: bookmarks + "/flavors/" + v.Flavor}}}
	}
	for _, a := range v.Attached {
		ref := volumeRef{ID: a.Volume.ID}
		if q.Version >= 3 {
			ends := a.DeleteOnEnd
			ref.DeleteOnEnd = &ends
		}
		out.Volumes = append(out.Volumes, ref)
	}
	if q.Version >= 9 {
		locked := v.LockedBy != ""
		out.Locked = &locked
	}
	if q.Version >= 19 {
		out.About = &api.JSONNull
	}
	if q.Version >= 26 {
		tags := model.TagsOf(v)
		out.Tags = &tags
	}
	if q.Version >= 63 {
		out.Trusted = &api.JSONNull
	}
	if q.Version >= 71 && show {
		out.Groups = &[]string{}
	}
	if q.Version >= 73 {
		out.Reason = rawOrNull(v.LockedReason)
	}
	if q.Version >= 90 || admin && q.Version >= 3 {
		out.Hostname = v.Hostname
	}
	if !admin {
		return out
	}
	out.serverAdminJSON = &serverAdminJSON{s.Options.Host(), s.Options.Host(), fmt.Sprintf("instance-%08x", v.Seq)}
	if q.Version >= 3 {
		out.serverAdmin3JSON = &serverAdmin3JSON{Reservation: v.Reservation, Root: "/dev/sda"}
	}
	if q.Version >= 16 {
		up := "UP"
		if v.Status == "DELETED" {
			up = ""
		}
		out.HostStatus = &up
	}
	return out
}
