package model

import (
	"time"
)

// Host is the name of the machine everything is on.
func (o *Options) Host() string { return "sim" }

// Times, as Cinder and Nova write them into notifications.
func cinderTime(t time.Time) any { return stampOr(t, "2006-01-02T15:04:05+00:00", nil) }

func stampOr(t time.Time, layout string, none any) any {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format(layout)
}

// NotifyBackup says backup.EVENT. Source: cinder/volume/volume_utils.py,
// _usage_from_backup.
func (s *State) NotifyBackup(event string, b *BackupRow, at time.Time, w Who) {
	if s.Options.Notify == nil || s.Format == Silent {
		return
	}
	payload := map[string]any{
		"tenant_id": b.Project.ID, "user_id": b.User, "availability_zone": nil, "backup_id": b.ID,
		"host": b.Host, "display_name": Null(b.Name), "created_at": cinderTime(b.Created), "status": b.Status,
		"volume_id": b.Volume, "size": b.Size, "service_metadata": nil, "service": nil,
		"fail_reason": Null(b.FailReason), "parent_id": nil, "num_dependent_backups": b.Dependents, "snapshot_id": nil,
	}
	if b.Parent != nil {
		payload["parent_id"] = b.Parent.ID
	}
	if b.ServiceName {
		base := b
		for base.Parent != nil {
			base = base.Parent
		}
		payload["service"] = "cinder.backup.drivers.ceph.CephBackupDriver"
		payload["service_metadata"] = `{"base": "volume-` + b.Volume + `.backup.` + base.ID + `"}`
	}
	s.publish(cinderExchange, "notifications.info", "backup."+b.Host, "backup."+event, "INFO", payload, at, w)
}

// NotifyVolume says volume.EVENT. Source: cinder/volume/volume_utils.py,
// _usage_from_volume.
func (s *State) NotifyVolume(event string, v *VolumeRow, at time.Time, w Who) {
	if s.Options.Notify == nil || s.Format == Silent {
		return
	}
	pairs := []map[string]string{}
	for _, k := range SortedKeys(v.Metadata) {
		pairs = append(pairs, map[string]string{"key": k, "value": v.Metadata[k]})
	}
	attached := []any{}
	if event != "detach.end" {
		for _, a := range v.Attached {
			status := "reserved"
			if a.Done {
				status = "attached"
			}
			attached = append(attached, map[string]any{
				"id": a.ID, "volume_id": v.ID, "instance_uuid": a.Server.ID, "attach_status": status,
				"mountpoint": a.Device, "attach_mode": "rw", "attached_host": s.Options.Host(),
				"attach_time": a.At.UTC().Format("2006-01-02T15:04:05.000000"), "detach_time": nil,
				"created_at": a.At.UTC().Format("2006-01-02T15:04:05.000000"), "deleted": false, "deleted_at": nil,
			})
		}
	}
	s.publish(cinderExchange, "notifications.info", "volume."+s.Options.Host()+"@ceph", "volume."+event, "INFO",
		map[string]any{
			"tenant_id": v.Project.ID, "host": s.Options.Host() + "@ceph#ceph", "user_id": v.User, "availability_zone": "nova",
			"volume_id": v.ID, "volume_type": VolumeType, "display_name": Null(v.Name), "launched_at": cinderTime(v.Created),
			"created_at": cinderTime(v.Created), "status": v.Status, "snapshot_id": nil, "size": v.Size,
			"replication_status": nil, "replication_extended_status": nil, "replication_driver_data": nil,
			"metadata": pairs, "volume_attachment": attached,
		}, at, w)
}

// Legacy says compute.instance.EVENT. Source: nova/notifications/base.py,
// info_from_instance.
func (s *State) Legacy(event string, v *ServerRow, extra map[string]any, at time.Time, w Who) {
	if s.Options.Notify == nil || s.Format == Silent || s.Format == Versioned {
		return
	}
	payload := map[string]any{
		"tenant_id": v.Project.ID, "user_id": v.User, "instance_id": v.ID, "display_name": v.Name,
		"reservation_id": v.Reservation, "hostname": v.Hostname, "instance_type": FlavorName, "instance_type_id": 1,
		"instance_flavor_id": v.Flavor, "architecture": nil, "memory_mb": 64, "disk_gb": 1, "vcpus": 1, "root_gb": 1,
		"ephemeral_gb": 0, "host": s.Options.Host(), "node": s.Options.Host(), "availability_zone": "nova", "cell_name": "",
		"created_at":    v.Created.UTC().Format("2006-01-02 15:04:05+00:00"),
		"terminated_at": stampOr(v.Terminated, "2006-01-02T15:04:05.000000", ""),
		"deleted_at":    stampOr(v.Terminated, "2006-01-02T15:04:05.000000", ""),
		"launched_at":   stampOr(v.Launched, "2006-01-02T15:04:05.000000", ""),
		"image_ref_url": s.Options.Base + "/image/images/" + v.Image, "os_type": nil, "kernel_id": "", "ramdisk_id": "",
		"state": v.VMState(), "state_description": v.Task, "progress": "", "access_ip_v4": nil, "access_ip_v6": nil,
		"image_meta": map[string]any{"base_image_ref": v.Image}, "metadata": v.Metadata,
	}
	for k, x := range extra {
		payload[k] = x
	}
	s.publish(novaExchange, "notifications.info", "compute."+s.Options.Host(), "compute.instance."+event, "INFO",
		payload, at, w)
}

// object is a versioned object of Nova's. Source:
// nova/notifications/objects/base.py.
func object(name, version string, data map[string]any) map[string]any {
	return map[string]any{"nova_object.name": name, "nova_object.namespace": "nova", "nova_object.version": version,
		"nova_object.data": data}
}

// Versioned says instance.EVENT. Source: nova/notifications/objects/instance.py.
func (s *State) Versioned(event, name, version string, v *ServerRow, extra map[string]any, at time.Time, w Who) {
	if s.Options.Notify == nil || s.Format == Silent || s.Format == Legacy {
		return
	}
	const zulu = "2006-01-02T15:04:05Z"
	devices := []any{}
	for _, a := range v.Attached {
		var index any
		if a.Boot {
			index = 0
		}
		devices = append(devices, object("BlockDevicePayload", "1.0", map[string]any{"device_name": a.Device,
			"boot_index": index, "delete_on_termination": a.DeleteOnEnd, "volume_id": a.Volume.ID, "tag": nil}))
	}
	image := v.Image
	data := map[string]any{
		"uuid": v.ID, "user_id": v.User, "tenant_id": v.Project.ID, "reservation_id": v.Reservation,
		"display_name": v.Name, "display_description": nil, "host_name": v.Hostname, "host": s.Options.Host(),
		"node":    s.Options.Host(),
		"os_type": nil, "architecture": nil, "availability_zone": "nova",
		"flavor": object("FlavorPayload", "1.4", map[string]any{"flavorid": v.Flavor, "memory_mb": 64, "vcpus": 1,
			"root_gb": 1, "ephemeral_gb": 0, "name": FlavorName, "swap": 0, "rxtx_factor": 1.0, "vcpu_weight": 0,
			"disabled": false, "is_public": true, "extra_specs": map[string]string{}, "projects": nil, "description": nil}),
		"image_uuid": image, "key_name": nil, "kernel_id": "", "ramdisk_id": "",
		"created_at": stampOr(v.Created, zulu, nil), "launched_at": stampOr(v.Launched, zulu, nil),
		"terminated_at": stampOr(v.Terminated, zulu, nil), "deleted_at": stampOr(v.Terminated, zulu, nil),
		"updated_at": stampOr(v.Updated, zulu, nil), "state": v.VMState(), "power_state": v.powerName(),
		"task_state": Null(v.Task), "progress": 0, "ip_addresses": []any{}, "block_devices": devices,
		"metadata": v.Metadata, "locked": v.LockedBy != "", "locked_reason": Null(v.LockedReason),
		"auto_disk_config": "MANUAL", "request_id": "req-" + s.UUID(),
		"action_initiator_user": w.User, "action_initiator_project": w.Project,
	}
	if name != "InstanceUpdatePayload" {
		data["fault"] = nil
	}
	for k, x := range extra {
		data[k] = x
	}
	s.publish(novaExchange, "versioned_notifications.info", "nova-compute:"+s.Options.Host(), "instance."+event, "INFO",
		object(name, version, data), at, w)
}

// NotifyServerUpdate says that a server is no longer as it was; before is what
// its state was.
func (s *State) NotifyServerUpdate(v, before *ServerRow, at time.Time, w Who) {
	month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	legacy := map[string]any{"old_state": before.VMState(), "old_task_state": Null(before.Task),
		"new_task_state":         Null(v.Task),
		"audit_period_beginning": month.Format("2006-01-02T15:04:05.000000"),
		"audit_period_ending":    at.UTC().Format("2006-01-02T15:04:05.000000"), "bandwidth": map[string]any{}}
	var old any
	if before.Name != v.Name {
		legacy["old_display_name"] = before.Name
		old = before.Name
	}
	s.Legacy("update", v, legacy, at, w)
	s.Versioned("update", "InstanceUpdatePayload", "2.0", v, map[string]any{
		"state_update": object("InstanceStateUpdatePayload", "1.0", map[string]any{"old_state": before.VMState(),
			"state": v.VMState(), "old_task_state": Null(before.Task), "new_task_state": Null(v.Task)}),
		"audit_period": object("AuditPeriodPayload", "1.0", map[string]any{
			"audit_period_beginning": month.Format("2006-01-02T15:04:05Z"),
			"audit_period_ending":    at.UTC().Format("2006-01-02T15:04:05Z")}),
		"old_display_name": old, "tags": TagsOf(v),
	}, at, w)
}
