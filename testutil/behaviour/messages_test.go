package behaviour

import (
	"context"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func brokenMessages(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("one") // and Nova and Cinder have declared their exchanges
	run := s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
	}))
	conn, err := amqp.Dial(s.cloud.broker)
	p.must(err)
	defer conn.Close()
	ch, err := conn.Channel()
	p.must(err)
	const mark = "never-to-be-logged"
	broken := []string{
		"", mark, "\x00\xff" + mark, `{"oslo.version": "2.0", "oslo.message": "{` + mark + `"}`,
		`{"oslo.version": "2.0", "oslo.message": "[\"` + mark + `\"]"}`,
		`{"event_type": "compute.instance.update", "message_id": "m-1", "timestamp": "` + mark +
			`", "payload": {"instance_id": 7}}`,
		`{"event_type": "backup.create.end", "message_id": "m-2", "timestamp": "2026-01-01 00:00:00.0", ` +
			`"payload": ["` + mark + `"]}`,
	}
	for _, exchange := range []string{"nova", "openstack"} {
		for _, body := range broken {
			p.must(ch.PublishWithContext(context.Background(), exchange, "notifications.info", false, false,
				amqp.Publishing{ContentType: "application/json", Body: []byte(body)}))
		}
	}
	askedWithin(p, p.optIn(servers[0]), soon, v...)
	p.until(time.Minute, "they are set aside", func() string {
		q, err := ch.QueueDeclarePassive(s.id+".dead", true, false, false, false, nil)
		if err != nil {
			return err.Error()
		}
		if q.Messages < 2*len(broken) {
			return fmt.Sprintf("%d of %d are", q.Messages, 2*len(broken))
		}
		return ""
	})
	complete(p, v...)
	if strings.Contains(run.log.String(), mark) {
		s.t.Errorf("what was in a broken message is in the log: %q", run.log.lines(mark)[0])
	}
}
