package simcloud

import (
	"encoding/json"
	"time"
)

// A message is a notification on its way.
type message struct {
	exchange, key string
	body          []byte
}

// send hands over what has piled up, in order and one at a time. Whoever finds
// somebody else at it leaves it to them, so that Notify may call the cloud.
func (c *Cloud) send() {
	for {
		c.outMu.Lock()
		if c.sending || len(c.out) == 0 {
			c.outMu.Unlock()
			return
		}
		c.sending = true
		batch := c.out
		c.out = nil
		c.outMu.Unlock()
		for _, m := range batch {
			if c.o.Notify != nil {
				c.o.Notify(m.exchange, m.key, m.body)
			}
		}
		c.outMu.Lock()
		c.sending = false
		c.outMu.Unlock()
	}
}

// who is the one on whose behalf something happens.
type who struct{ user, project string }

// nobody is an operator with admin's rights.
func (s *state) nobody() who { return who{s.userOrder[0].id, s.projectOrder[0].id} }

func (q *request) who() who {
	w := who{user: q.token.user.id}
	if q.token.project != nil {
		w.project = q.token.project.id
	}
	return w
}

// publish puts a notification on its way, in oslo's envelope. Source:
// oslo_messaging/notify/messaging.py and _drivers/common.py, serialize_msg.
func (s *state) publish(exchange, key, publisher, event, priority string, payload any, at time.Time, w who) {
	if s.o.Notify == nil {
		return
	}
	at = at.UTC()
	request := "req-" + s.uuid()
	text, err := json.Marshal(map[string]any{
		"message_id": s.uuid(), "publisher_id": publisher, "event_type": event, "priority": priority,
		"payload": payload, "timestamp": at.Format("2006-01-02 15:04:05.000000"), "_unique_id": s.hex(),
		"_context_request_id": request, "_context_global_request_id": nil,
		"_context_user": w.user, "_context_user_id": w.user, "_context_project": w.project, "_context_project_id": w.project,
		"_context_auth_token": nil, "_context_is_admin": false, "_context_roles": []string{"member", "reader"},
		"_context_timestamp": at.Format("2006-01-02T15:04:05.000000"), "_context_read_deleted": "no",
	})
	if err != nil {
		panic("simcloud: notification " + event + ": " + err.Error())
	}
	body, err := json.Marshal(map[string]string{"oslo.version": "2.0", "oslo.message": string(text)})
	if err != nil {
		panic("simcloud: notification " + event + ": " + err.Error())
	}
	s.sendFn(message{exchange, key, body})
}

// Cinder's exchange is called openstack unless an operator changed it.
const (
	cinderExchange = "openstack"
	novaExchange   = "nova"
)

// Times, as Cinder and Nova write them into notifications.
func cinderTime(t time.Time) any { return stampOr(t, "2006-01-02T15:04:05+00:00", nil) }

func stampOr(t time.Time, layout string, none any) any {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format(layout)
}

// notifyBackup says backup.EVENT. Source: cinder/volume/volume_utils.py,
// _usage_from_backup.
func (s *state) notifyBackup(event string, b *backup, at time.Time, w who) {
	if s.o.Notify == nil || s.format == Silent {
		return
	}
	payload := map[string]any{
		"tenant_id": b.project.id, "user_id": b.user, "availability_zone": nil, "backup_id": b.id,
		"host": b.host, "display_name": null(b.name), "created_at": cinderTime(b.created), "status": b.status,
		"volume_id": b.volume, "size": b.size, "service_metadata": nil, "service": nil,
		"fail_reason": null(b.failReason), "parent_id": nil, "num_dependent_backups": b.dependents, "snapshot_id": nil,
	}
	if b.parent != nil {
		payload["parent_id"] = b.parent.id
	}
	if b.serviceName {
		base := b
		for base.parent != nil {
			base = base.parent
		}
		payload["service"] = "cinder.backup.drivers.ceph.CephBackupDriver"
		payload["service_metadata"] = `{"base": "volume-` + b.volume + `.backup.` + base.id + `"}`
	}
	s.publish(cinderExchange, "notifications.info", "backup."+b.host, "backup."+event, "INFO", payload, at, w)
}

// notifyVolume says volume.EVENT. Source: cinder/volume/volume_utils.py,
// _usage_from_volume.
func (s *state) notifyVolume(event string, v *volume, at time.Time, w who) {
	if s.o.Notify == nil || s.format == Silent {
		return
	}
	pairs := []map[string]string{}
	for _, k := range sortedKeys(v.metadata) {
		pairs = append(pairs, map[string]string{"key": k, "value": v.metadata[k]})
	}
	attached := []any{}
	if event != "detach.end" {
		for _, a := range v.attached {
			status := "reserved"
			if a.done {
				status = "attached"
			}
			attached = append(attached, map[string]any{
				"id": a.id, "volume_id": v.id, "instance_uuid": a.server.id, "attach_status": status,
				"mountpoint": a.device, "attach_mode": "rw", "attached_host": s.o.host(),
				"attach_time": a.at.UTC().Format("2006-01-02T15:04:05.000000"), "detach_time": nil,
				"created_at": a.at.UTC().Format("2006-01-02T15:04:05.000000"), "deleted": false, "deleted_at": nil,
			})
		}
	}
	s.publish(cinderExchange, "notifications.info", "volume."+s.o.host()+"@ceph", "volume."+event, "INFO", map[string]any{
		"tenant_id": v.project.id, "host": s.o.host() + "@ceph#ceph", "user_id": v.user, "availability_zone": "nova",
		"volume_id": v.id, "volume_type": volumeType, "display_name": null(v.name), "launched_at": cinderTime(v.created),
		"created_at": cinderTime(v.created), "status": v.status, "snapshot_id": nil, "size": v.size,
		"replication_status": nil, "replication_extended_status": nil, "replication_driver_data": nil,
		"metadata": pairs, "volume_attachment": attached,
	}, at, w)
}

// legacy says compute.instance.EVENT. Source: nova/notifications/base.py,
// info_from_instance.
func (s *state) legacy(event string, v *server, extra map[string]any, at time.Time, w who) {
	if s.o.Notify == nil || s.format == Silent || s.format == Versioned {
		return
	}
	payload := map[string]any{
		"tenant_id": v.project.id, "user_id": v.user, "instance_id": v.id, "display_name": v.name,
		"reservation_id": v.reservation, "hostname": v.hostname, "instance_type": flavorName, "instance_type_id": 1,
		"instance_flavor_id": v.flavor, "architecture": nil, "memory_mb": 64, "disk_gb": 1, "vcpus": 1, "root_gb": 1,
		"ephemeral_gb": 0, "host": s.o.host(), "node": s.o.host(), "availability_zone": "nova", "cell_name": "",
		"created_at":    v.created.UTC().Format("2006-01-02 15:04:05+00:00"),
		"terminated_at": stampOr(v.terminated, "2006-01-02T15:04:05.000000", ""),
		"deleted_at":    stampOr(v.terminated, "2006-01-02T15:04:05.000000", ""),
		"launched_at":   stampOr(v.launched, "2006-01-02T15:04:05.000000", ""),
		"image_ref_url": s.o.Base + "/image/images/" + v.image, "os_type": nil, "kernel_id": "", "ramdisk_id": "",
		"state": v.vmState(), "state_description": v.task, "progress": "", "access_ip_v4": nil, "access_ip_v6": nil,
		"image_meta": map[string]any{"base_image_ref": v.image}, "metadata": v.metadata,
	}
	for k, x := range extra {
		payload[k] = x
	}
	s.publish(novaExchange, "notifications.info", "compute."+s.o.host(), "compute.instance."+event, "INFO", payload, at, w)
}

// object is a versioned object of Nova's. Source:
// nova/notifications/objects/base.py.
func object(name, version string, data map[string]any) map[string]any {
	return map[string]any{"nova_object.name": name, "nova_object.namespace": "nova", "nova_object.version": version,
		"nova_object.data": data}
}

// versioned says instance.EVENT. Source: nova/notifications/objects/instance.py.
func (s *state) versioned(event, name, version string, v *server, extra map[string]any, at time.Time, w who) {
	if s.o.Notify == nil || s.format == Silent || s.format == Legacy {
		return
	}
	const zulu = "2006-01-02T15:04:05Z"
	devices := []any{}
	for _, a := range v.attached {
		var index any
		if a.boot {
			index = 0
		}
		devices = append(devices, object("BlockDevicePayload", "1.0", map[string]any{"device_name": a.device,
			"boot_index": index, "delete_on_termination": a.deleteOnEnd, "volume_id": a.volume.id, "tag": nil}))
	}
	image := v.image
	data := map[string]any{
		"uuid": v.id, "user_id": v.user, "tenant_id": v.project.id, "reservation_id": v.reservation,
		"display_name": v.name, "display_description": nil, "host_name": v.hostname, "host": s.o.host(), "node": s.o.host(),
		"os_type": nil, "architecture": nil, "availability_zone": "nova",
		"flavor": object("FlavorPayload", "1.4", map[string]any{"flavorid": v.flavor, "memory_mb": 64, "vcpus": 1,
			"root_gb": 1, "ephemeral_gb": 0, "name": flavorName, "swap": 0, "rxtx_factor": 1.0, "vcpu_weight": 0,
			"disabled": false, "is_public": true, "extra_specs": map[string]string{}, "projects": nil, "description": nil}),
		"image_uuid": image, "key_name": nil, "kernel_id": "", "ramdisk_id": "",
		"created_at": stampOr(v.created, zulu, nil), "launched_at": stampOr(v.launched, zulu, nil),
		"terminated_at": stampOr(v.terminated, zulu, nil), "deleted_at": stampOr(v.terminated, zulu, nil),
		"updated_at": stampOr(v.updated, zulu, nil), "state": v.vmState(), "power_state": v.powerName(),
		"task_state": null(v.task), "progress": 0, "ip_addresses": []any{}, "block_devices": devices,
		"metadata": v.metadata, "locked": v.lockedBy != "", "locked_reason": null(v.lockedReason),
		"auto_disk_config": "MANUAL", "request_id": "req-" + s.uuid(),
		"action_initiator_user": w.user, "action_initiator_project": w.project,
	}
	if name != "InstanceUpdatePayload" {
		data["fault"] = nil
	}
	for k, x := range extra {
		data[k] = x
	}
	s.publish(novaExchange, "versioned_notifications.info", "nova-compute:"+s.o.host(), "instance."+event, "INFO",
		object(name, version, data), at, w)
}

// notifyServerUpdate says that a server is no longer as it was; before is what
// its state was.
func (s *state) notifyServerUpdate(v, before *server, at time.Time, w who) {
	month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	legacy := map[string]any{"old_state": before.vmState(), "old_task_state": null(before.task), "new_task_state": null(v.task),
		"audit_period_beginning": month.Format("2006-01-02T15:04:05.000000"),
		"audit_period_ending":    at.UTC().Format("2006-01-02T15:04:05.000000"), "bandwidth": map[string]any{}}
	var old any
	if before.name != v.name {
		legacy["old_display_name"] = before.name
		old = before.name
	}
	s.legacy("update", v, legacy, at, w)
	s.versioned("update", "InstanceUpdatePayload", "2.0", v, map[string]any{
		"state_update": object("InstanceStateUpdatePayload", "1.0", map[string]any{"old_state": before.vmState(),
			"state": v.vmState(), "old_task_state": null(before.task), "new_task_state": null(v.task)}),
		"audit_period": object("AuditPeriodPayload", "1.0", map[string]any{
			"audit_period_beginning": month.Format("2006-01-02T15:04:05Z"), "audit_period_ending": at.UTC().Format("2006-01-02T15:04:05Z")}),
		"old_display_name": old, "tags": tagsOf(v),
	}, at, w)
}

func tagsOf(v *server) []string {
	if v.tags == nil {
		return []string{}
	}
	return v.tags
}

// null is nil for an empty string.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}
