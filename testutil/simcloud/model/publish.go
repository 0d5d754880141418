package model

import (
	"encoding/json"
	"sync"
	"time"
)

// A message is a notification on its way.
type message struct {
	exchange, key string
	body          []byte
}

// An outbox holds notifications that are to be sent, oldest first.
type outbox struct {
	mu      sync.Mutex
	waiting []message
	sending bool
}

func (o *outbox) put(m message) {
	o.mu.Lock()
	o.waiting = append(o.waiting, m)
	o.mu.Unlock()
}

// send hands over what is waiting, in order and one at a time; a nil notify discards
// it. If another caller is sending, that one sends these as well, so that notify may
// call the cloud.
func (o *outbox) send(notify func(exchange, routingKey string, body []byte)) {
	for {
		o.mu.Lock()
		if o.sending || len(o.waiting) == 0 {
			o.mu.Unlock()
			return
		}
		o.sending = true
		batch := o.waiting
		o.waiting = nil
		o.mu.Unlock()
		for _, m := range batch {
			if notify != nil {
				notify(m.exchange, m.key, m.body)
			}
		}
		o.mu.Lock()
		o.sending = false
		o.mu.Unlock()
	}
}

// Who is the one on whose behalf something happens.
type Who struct{ User, Project string }

// Nobody is an operator with admin's rights.
func (s *State) Nobody() Who { return Who{s.UserOrder[0].ID, s.ProjectOrder[0].ID} }

// publish puts a notification on its way, in oslo's envelope. Source:
// oslo_messaging/notify/messaging.py and _drivers/common.py, serialize_msg.
func (s *State) publish(exchange, key, publisher, event, priority string, payload any, at time.Time, w Who) {
	if s.Options.Notify == nil {
		return
	}
	at = at.UTC()
	request := "req-" + s.UUID()
	text, err := json.Marshal(map[string]any{
		"message_id": s.UUID(), "publisher_id": publisher, "event_type": event, "priority": priority,
		"payload": payload, "timestamp": at.Format("2006-01-02 15:04:05.000000"), "_unique_id": s.Hex(),
		"_context_request_id": request, "_context_global_request_id": nil,
		"_context_user": w.User, "_context_user_id": w.User, "_context_project": w.Project, "_context_project_id": w.Project,
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
	s.out.put(message{exchange, key, body})
}

// Cinder's exchange is called openstack unless an operator changed it.
const (
	cinderExchange = "openstack"
	novaExchange   = "nova"
)
