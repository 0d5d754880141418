package behaviour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"staffeln/testutil/secrets"
	"staffeln/testutil/services"
)

// Every secret that somebody can hand to the program is a mark, and none of them is
// found again in anything that it tells, whatever goes wrong.
func TestSecretsAreToldToNobody(t *testing.T) {
	broker := services.RabbitMQ(t)
	c := simulated(t)
	hidden(t, c, func(user, password string) {
		u, err := url.Parse(c.broker)
		if err != nil {
			t.Fatal(err)
		}
		broker.Ctl(t, "add_user", user, password)
		broker.Ctl(t, "set_permissions", "-p", strings.TrimPrefix(u.Path, "/"), user, ".*", ".*", ".*")
		t.Cleanup(func() { broker.Ctl(t, "delete_user", user) })
	})
}

// A hiding is a scene whose secrets are marked.
type hiding struct {
	*scene
	marks  *secrets.Marks
	p      *project
	env    map[string]string
	gate   *gate
	ledger *services.RedisProcess
	mail   *services.SMTPServer
	tap    *tap
	// tenant are marked values of the tenant's, that notifications and API answers hold.
	tenant []string
}

// hidden plays it on a cloud. addUser makes a user of the broker's.
func hidden(t *testing.T, c *cloud, addUser func(user, password string)) {
	h := &hiding{scene: newScene(t, c, rights{}), marks: &secrets.Marks{}}
	h.p = h.project(nil)
	h.dress(addUser)

	servers, v := h.p.machines("one")
	h.tenants(servers[0], v[0])
	run := h.prepare(h.env, "run")
	run.launch()
	run.ready()
	h.p.optIn(servers[0])
	complete(h.p, v...)
	stamped(h.p, time.Now().Add(-time.Hour), servers...)
	h.p.until(time.Minute, "a digest has gone out", func() string {
		if len(h.mailed()) == 0 {
			return "none has"
		}
		return ""
	})

	h.notifications()
	h.refusals(run)
	h.strangers(run)
	h.redisRefuses(run)
	h.brokerGone(run)

	h.told(run)
	h.commands([]map[string]string{h.env}, []string{"check"}, []string{"plan"}, []string{"plan", "--json", "--all"},
		[]string{"brake"},
		[]string{"report", "preview", "--project", h.p.id}, []string{"report", "preview", "--text", "--project", h.p.id})
	if err := run.terminate(time.Minute); err != nil {
		t.Errorf("told to stop, the program said: %v", err)
	}
	h.marks.Nowhere(t, "what the program wrote", run.log.String())
	h.deadLetters()
	h.wrong()
	h.connector()
	h.demo()
	if n := h.marks.Count("token"); n < 2 {
		t.Errorf("%d tokens were seen to be issued", n)
	}
	if t.Failed() {
		return
	}
	// That nothing is found has to mean something.
	if !strings.Contains(run.log.String(), "level=DEBUG") || !strings.Contains(h.everything(), h.p.id) {
		t.Error("there is nothing to look into")
	}
}

// dress makes the service user, and all else that has a password.
func (h *hiding) dress(addUser func(user, password string)) {
	h.t.Helper()
	m := h.marks
	name, secret := h.id+"-svc", m.New("OS_PASSWORD")
	var user struct{ User struct{ ID string } }
	h.p.must(h.admin.call("POST", "identity", "/users",
		object{"user": object{"name": name, "domain_id": "default", "password": secret}}, &user))
	h.remove("/users/" + user.User.ID)
	h.p.must(h.admin.call("PUT", "identity", "/projects/"+h.p.id+"/users/"+user.User.ID+"/roles/"+h.memberRole(), nil,
		nil))

	h.gate = openGate(h.t, h.cloud.broker)
	brokerURL, err := url.Parse(h.gate.url)
	h.p.must(err)
	brokerUser, brokerSecret := h.id, m.New("RabbitMQ's password")
	addUser(brokerUser, brokerSecret)
	brokerURL.User = url.UserPassword(brokerUser, brokerSecret)

	redisSecret := m.New("Redis' password")
	h.ledger = services.RedisServer(h.t)
	h.redisPassword(redisSecret)
	redisURL := url.URL{Scheme: "redis", User: url.UserPassword("", redisSecret), Host: h.ledger.Addr()}

	mailSecret := m.New("SMTP password")
	h.mail = services.SMTP(h.t, "--user", "staffeln", "--password", mailSecret)
	// A Resend that refuses the key for good, and cites it.
	resend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(object{"name": "invalid_api_key",
			"message": "API key " + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + " is invalid"})
	}))
	h.t.Cleanup(resend.Close)

	h.tap = openTap(h.t, h.front.auth, m)
	h.env = h.settings(map[string]string{
		"OS_AUTH_URL": h.tap.auth, "OS_USERNAME": name, "OS_PASSWORD": secret, "OS_PROJECT_NAME": h.p.name,
		"OS_PROJECT_DOMAIN_NAME": "Default",
		"STAFFELN_REDIS_URL":     redisURL.String(), "STAFFELN_AMQP_URLS": brokerURL.String(),
		"STAFFELN_INCLUDE_PROJECTS":  h.p.id,
		"STAFFELN_REPORT_PERIOD":     "10s",
		"STAFFELN_REPORT_RECIPIENTS": "ada@example.org", "STAFFELN_REPORT_OPERATORS": "ops@example.org",
		"STAFFELN_MAIL_CHANNELS": "resend,smtp", "STAFFELN_MAIL_FROM": "backups@staffeln.test",
		"STAFFELN_RESEND_API_KEY": m.Plain("Resend's key"),
		"STAFFELN_RESEND_URL":     "http://u:" + m.Plain("Resend's URL") + "@" + strings.TrimPrefix(resend.URL, "http://"),
		"STAFFELN_SMTP_HOST":      "127.0.0.1", "STAFFELN_SMTP_PORT": strconv.Itoa(h.mail.Port), "STAFFELN_SMTP_TLS": "none",
		"STAFFELN_SMTP_USER": "staffeln", "STAFFELN_SMTP_PASSWORD": mailSecret,
		"STAFFELN_METRICS_LISTEN": services.Address(h.t),
	})
}

// redisPassword gives the running Redis another password, and cuts who is connected.
func (h *hiding) redisPassword(secret string) {
	h.t.Helper()
	rdb := h.ledger.Client()
	if now := h.env["STAFFELN_REDIS_URL"]; now != "" {
		rdb = services.ClientOf(h.t, now)
	}
	h.p.must(rdb.ConfigSet(h.t.Context(), "requirepass", secret).Err())
	h.p.must(rdb.Do(h.t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
}

// tenants writes what tenants write, who keep secrets where they should not.
func (h *hiding) tenants(server, volume string) {
	h.t.Helper()
	for range 3 {
		h.tenant = append(h.tenant, h.marks.New("a tenant's secret"))
	}
	h.p.must(h.p.user.call("POST", "compute", "/servers/"+server+"/metadata",
		object{"metadata": object{"db_password": h.tenant[0]}}, nil))
	h.p.must(h.p.user.call("POST", "volumev3", "/volumes/"+volume+"/metadata",
		object{"metadata": object{"luks": h.tenant[1]}}, nil))
}

// notifications publishes what old releases and broken ones do: the whole context of a
// request, its token included, in the envelope and around it.
func (h *hiding) notifications() {
	h.t.Helper()
	conn, err := amqp.Dial(h.cloud.broker)
	h.p.must(err)
	defer conn.Close()
	ch, err := conn.Channel()
	h.p.must(err)
	request := func() object {
		return object{
			"_context_auth_token": h.marks.New("a token in a notification"), "_context_user_id": "u",
			"_context_project_id":      h.p.id,
			"_context_service_catalog": []object{{"type": "volumev3", "password": h.marks.New("a password in a notification")}},
			"_context_request_id":      h.marks.New("a request in a notification"),
		}
	}
	payloads := []object{
		{"tenant_id": h.p.id, "instance_id": "00000000-0000-4000-8000-000000000001",
			"metadata": object{"backup": "yes", "admin_pass": h.marks.New("a password in a payload")}, "state": "active"},
		{"tenant_id": h.p.id, "instance_id": h.marks.New("an id that is none")},
		{"tenant_id": h.marks.New("a project that is none"), "volume_id": "00000000-0000-4000-8000-000000000002"},
		{"tenant_id": h.p.id, "backup_id": 7, "fail_reason": h.marks.New("a reason in a payload")},
	}
	for i, payload := range payloads {
		for _, kind := range []string{"compute.instance.update", "volume.update.end", "backup.create.end",
			"instance.update"} {
			message := request()
			maps.Copy(message, object{"event_type": kind, "message_id": fmt.Sprintf("%s-%d-%s", h.id, i, kind),
				"publisher_id": "nova@h", "priority": "INFO",
				"timestamp": time.Now().UTC().Format("2006-01-02 15:04:05.000000"), "payload": payload})
			inner, err := json.Marshal(message)
			h.p.must(err)
			outer := request()
			maps.Copy(outer, object{"oslo.version": "2.0", "oslo.message": string(inner)})
			whole, err := json.Marshal(outer)
			h.p.must(err)
			// As it is, and cut off in the middle.
			for _, body := range [][]byte{whole, inner, whole[:len(whole)-20], inner[:len(inner)/2]} {
				for _, exchange := range exchanges {
					h.p.must(ch.PublishWithContext(context.Background(), exchange, "notifications.info", false, false,
						amqp.Publishing{ContentType: "application/json", Body: body,
							Headers: amqp.Table{"token": h.marks.New("a header of a message")}}))
				}
			}
		}
	}
	h.p.until(time.Minute, "what cannot be read is set aside", func() string {
		q, err := ch.QueueDeclarePassive(h.id+".dead", true, false, false, false, nil)
		if err != nil {
			return err.Error()
		}
		if q.Messages < 8 {
			return fmt.Sprintf("%d messages are", q.Messages)
		}
		return ""
	})
}

// refusals has the cloud refuse whatever it is asked, and cite what it was asked with.
func (h *hiding) refusals(run *process) {
	h.t.Helper()
	for _, status := range []int{401, 403, 404, 413, 500, 503} {
		var met atomic.Int32
		h.front.on(func(r *request) act {
			if status == 401 && strings.HasSuffix(r.Path, "/auth/tokens") && met.Load() < 10 {
				return act{} // a new token, to be refused again
			}
			met.Add(1)
			words := "the token " + h.tap.last() + " of " + h.env["OS_USERNAME"] + " with the password " +
				h.env["OS_PASSWORD"] + " is not accepted"
			body, _ := json.Marshal(object{"error": object{"code": status, "message": words}})
			return act{Status: status, Body: string(body)}
		})
		h.p.until(time.Minute, fmt.Sprintf("the program has met a %d", status), func() string {
			if met.Load() < 3 {
				return "it has not"
			}
			return ""
		})
		if status == 401 || status == 500 { // the commands, too, which say errors in full
			h.commands([]map[string]string{h.env}, []string{"check"}, []string{"plan"})
		}
	}
	h.front.on(nil)
}

// strangers ask the program's address for what they should not be told.
func (h *hiding) strangers(run *process) {
	h.t.Helper()
	row := h.p.backups()[0]
	target, err := json.Marshal(object{"id": row.ID, "project_id": h.p.id,
		"metadata": object{"secret": h.marks.New("a check's metadata")}, "encryption_key_id": h.marks.New("a check's key")})
	h.p.must(err)
	credentials, err := json.Marshal(object{"user_id": "u", "auth_token": h.marks.New("a check's token"),
		"roles": []string{"member"}})
	h.p.must(err)
	whole := url.Values{"rule": {`"backup:delete"`}, "target": {string(target)},
		"credentials": {string(credentials)}}.Encode()
	for _, body := range []string{whole, whole[:len(whole)/2], h.marks.New("a check that is none"), string(target)} {
		for _, kind := range []string{"application/x-www-form-urlencoded", "application/json",
			"text/" + h.marks.Plain("a content type")} {
			for _, id := range []string{row.ID, url.QueryEscape(h.marks.New("an id in a check"))} {
				resp, err := apiClient.Post("http://"+run.addr+"/v1/backup?backup_id="+id, kind, strings.NewReader(body))
				h.p.must(err)
				said, err := io.ReadAll(resp.Body)
				h.p.must(err)
				resp.Body.Close()
				h.marks.Nowhere(h.t, "the answer to a check", string(said))
			}
		}
	}
	for _, path := range []string{"/v1/backup/" + row.ID, "/", "/" + h.marks.Plain("a path"), "/healthz", "/readyz"} {
		for _, token := range []string{"", h.marks.Plain("a token that nobody asked for")} {
			h.marks.Nowhere(h.t, path, get(h.t, "http://"+run.addr+path, token))
		}
	}
}

func get(t *testing.T, address, token string) string {
	t.Helper()
	r, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := apiClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.Header, string(body))
}

// redisRefuses has Redis refuse the program's password for a while.
func (h *hiding) redisRefuses(run *process) {
	h.t.Helper()
	ours, _ := url.Parse(h.env["STAFFELN_REDIS_URL"])
	right, _ := ours.User.Password()
	wrong := h.marks.New("another password of Redis'")
	h.redisPassword(wrong)
	h.p.until(time.Minute, "the program notices", func() string {
		ready := get(h.t, "http://"+run.addr+"/readyz", "")
		h.marks.Nowhere(h.t, "/readyz", ready)
		if !strings.Contains(ready, `"redis":"down"`) {
			return ready
		}
		return ""
	})
	short := maps.Clone(h.env)
	short["STAFFELN_API_TIMEOUT"] = "3s"
	h.commands([]map[string]string{short}, []string{"check"}, []string{"plan"})
	other := *ours
	other.User = url.UserPassword("", wrong)
	rdb := services.ClientOf(h.t, other.String())
	h.p.must(rdb.ConfigSet(h.t.Context(), "requirepass", right).Err())
	h.p.must(rdb.Do(h.t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
}

// brokerGone takes the broker away for a while.
func (h *hiding) brokerGone(run *process) {
	h.t.Helper()
	h.gate.close()
	h.p.until(time.Minute, "the program notices", func() string {
		ready := get(h.t, "http://"+run.addr+"/readyz", "")
		h.marks.Nowhere(h.t, "/readyz", ready)
		if !strings.Contains(ready, `"amqp":"down"`) {
			return ready
		}
		return ""
	})
	h.gate.open()
	h.p.until(time.Minute, "the program is connected again", func() string {
		if ready := get(h.t, "http://"+run.addr+"/readyz", ""); !strings.Contains(ready, `"amqp":"ok"`) ||
			!strings.Contains(ready, `"redis":"ok"`) {
			return ready
		}
		return ""
	})
}

// told looks into everything that the running program tells.
func (h *hiding) told(run *process) {
	h.t.Helper()
	h.marks.Nowhere(h.t, "/metrics", get(h.t, "http://"+h.env["STAFFELN_METRICS_LISTEN"]+"/metrics", ""))
	h.marks.Nowhere(h.t, "Redis", h.everything())
	for _, m := range h.mailed() {
		h.marks.Nowhere(h.t, "a mail", m.Data)
	}
	for _, b := range h.p.backups() {
		h.marks.Nowhere(h.t, "a backup's metadata", fmt.Sprint(b.Name, b.Metadata))
	}
	h.marks.Nowhere(h.t, "the command line", strings.Join(run.args, " "))
}

// everything is all that is in Redis.
func (h *hiding) everything() string {
	return secrets.Redis(h.t, services.ClientOf(h.t, h.env["STAFFELN_REDIS_URL"]))
}

func (h *hiding) mailed() []services.Mail { return h.mail.Taken(h.t, 0) }

// commands runs the program's commands to their ends, well or not, in each environment,
// some at a time.
func (h *hiding) commands(envs []map[string]string, all ...[]string) {
	h.t.Helper()
	var under sync.WaitGroup
	room := make(chan struct{}, 4)
	for _, env := range envs {
		for _, args := range all {
			p := h.prepare(env, args...)
			under.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				h.finish(p)
			})
		}
	}
	under.Wait()
}

// finish runs a process to its end.
func (h *hiding) finish(p *process) string {
	p.launch()
	if errors.Is(p.wait(2*time.Minute), errNotEnded) {
		p.kill()
		h.t.Errorf("staffeln %s does not end", strings.Join(p.args[1:], " "))
	}
	h.marks.Nowhere(h.t, "staffeln "+strings.Join(p.args[1:], " "), p.log.String())
	return p.log.String()
}

// deadLetters looks at what the program wrote about messages that it has set aside. Their
// bodies are as they came (docs/operators.md).
func (h *hiding) deadLetters() {
	h.t.Helper()
	conn, err := amqp.Dial(h.cloud.broker)
	h.p.must(err)
	defer conn.Close()
	ch, err := conn.Channel()
	h.p.must(err)
	n := 0
	for {
		d, ok, err := ch.Get(h.id+".dead", true)
		h.p.must(err)
		if !ok {
			break
		}
		n++
		for name, value := range d.Headers {
			if strings.HasPrefix(name, "staffeln-") {
				h.marks.Nowhere(h.t, "the header "+name+" of a message set aside", fmt.Sprint(value))
			}
		}
	}
	if n == 0 {
		h.t.Error("nothing was set aside")
	}
}

// wrong starts the program with credentials that are refused, and with settings that are
// none.
func (h *hiding) wrong() {
	h.t.Helper()
	m := h.marks
	with := func(name, value string) map[string]string {
		env := maps.Clone(h.env)
		env["STAFFELN_API_TIMEOUT"] = "3s"
		env[name] = value
		return env
	}
	broken := filepath.Join(h.t.TempDir(), "clouds.yaml")
	h.p.must(os.WriteFile(broken, []byte("clouds:\n  c:\n    auth:\n      password: ["+
		m.Plain("a broken clouds.yaml")+"\n    region_name: `"+m.Plain("a broken clouds.yaml")+"`\n"), 0o600))
	pem := filepath.Join(h.t.TempDir(), "key.pem")
	h.p.must(os.WriteFile(pem, []byte("-----BEGIN PRIVATE KEY-----\n"+m.Plain("a broken key")+
		"\n-----END PRIVATE KEY-----\n"), 0o600))
	var all []map[string]string
	for _, env := range []map[string]string{
		with("OS_PASSWORD", m.New("a wrong OS_PASSWORD")),
		with("STAFFELN_REDIS_URL", "redis://:"+m.Plain("a wrong password of Redis'")+"@"+h.ledger.Addr()),
		with("STAFFELN_REDIS_URL", "redis://"+m.New("a broken REDIS_URL")+"@"+h.ledger.Addr()+"/0"),
		with("STAFFELN_REDIS_URL", "redis://h/0?password="+m.Plain("an unknown option")),
		with("STAFFELN_AMQP_URLS", "http://u:"+m.Plain("a broken AMQP_URLS")+"@h,amqp://"+m.New("a broken AMQP_URLS")),
		with("STAFFELN_RESEND_URL", "ftp://u:"+m.New("a broken RESEND_URL")+"@h"),
		with("STAFFELN_RESEND_API_KEY", "key: "+m.New("a broken RESEND_API_KEY")),
		with("STAFFELN_FUNCTION_URL", "http://u:"+m.Plain("a broken FUNCTION_URL")+"@h"),
		with("STAFFELN_OPERATOR_TOKEN", m.New("an OPERATOR_TOKEN, which is no longer a setting")),
		with("STAFFELN_REDIS_PASSWORD", m.New("a setting that is none")),
		with("STAFFELN_SMTP_USER", ""),
		with("OS_AUTH_URL", "http://u:"+m.Plain("an OS_AUTH_URL with a password")+"@127.0.0.1:1/v3"),
		with("OS_APPLICATION_CREDENTIAL_SECRET", m.New("OS_APPLICATION_CREDENTIAL_SECRET")),
		with("OS_TOKEN", m.Plain("OS_TOKEN")),
		with("OS_CLIENT_CONFIG_FILE", broken),
		with("OS_KEY", pem),
		with("STAFFELN_TLS_KEY", pem),
	} {
		if env["OS_CLIENT_CONFIG_FILE"] != "" {
			env["OS_CLOUD"] = "c"
		}
		if env["STAFFELN_TLS_KEY"] != "" {
			env["STAFFELN_TLS_CERT"] = pem
		}
		all = append(all, env)
	}
	h.commands(all, []string{"check"})
	// A wrong password of the broker's shows only in a program that runs.
	u, _ := url.Parse(h.env["STAFFELN_AMQP_URLS"])
	u.User = url.UserPassword(u.User.Username(), m.New("a wrong password of RabbitMQ's"))
	run := h.prepare(with("STAFFELN_AMQP_URLS", u.String()), "run")
	run.launch()
	h.p.until(time.Minute, "the broker has refused the program", func() string {
		if len(run.log.lines("refuses the user name or password")) == 0 {
			return "nothing is said of it"
		}
		return ""
	})
	run.kill()
	m.Nowhere(h.t, "what a program refused by its broker wrote", run.log.String())
}

// connector has a program that sends events to functions elsewhere, whose address has a
// password.
func (h *hiding) connector() {
	h.t.Helper()
	called := make(chan bool, 1000)
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called <- true
		http.Error(w, "not now", http.StatusBadGateway)
	}))
	env := maps.Clone(h.env)
	u, _ := url.Parse(gateway.URL)
	u.User = url.UserPassword("gateway", h.marks.New("FUNCTION_URL's password"))
	env["STAFFELN_FUNCTION_URL"] = u.String() + "/{function}"
	env["STAFFELN_LOG_FORMAT"] = "json"
	run := h.prepare(env, "run")
	run.launch()
	for range 5 {
		select {
		case <-called:
		case <-time.After(time.Minute):
			h.t.Fatal("the gateway is not called")
		}
	}
	gateway.CloseClientConnections()
	gateway.Close()
	h.p.until(time.Minute, "the connector has found the gateway gone", func() string {
		if len(run.log.lines("refused")) == 0 {
			return "nothing is said of it"
		}
		return ""
	})
	run.kill()
	h.marks.Nowhere(h.t, "what a connector wrote", run.log.String())
}

// demo runs the demo with everything in its environment.
func (h *hiding) demo() {
	h.t.Helper()
	dir := h.t.TempDir()
	path, err := showing()
	h.p.must(err)
	if out := h.finish(h.prepareAt(path, h.env, "--plain", "--out", dir)); !strings.Contains(out, "digests") {
		h.t.Errorf("the demo said: %s", out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	h.p.must(err)
	if len(files) == 0 {
		h.t.Error("the demo wrote no digests")
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		h.p.must(err)
		h.marks.Nowhere(h.t, f, string(content))
	}
}

// A tap stands before Keystone and marks every token that it issues to the program.
type tap struct {
	auth  string
	marks *secrets.Marks
	now   chan string
}

func openTap(t *testing.T, auth string, marks *secrets.Marks) *tap {
	t.Helper()
	u, err := url.Parse(auth)
	if err != nil {
		t.Fatal(err)
	}
	k := &tap{marks: marks, now: make(chan string, 1)}
	k.now <- "none"
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: u.Scheme, Host: u.Host}) },
		ModifyResponse: func(r *http.Response) error {
			if token := r.Header.Get("X-Subject-Token"); token != "" {
				marks.Add("token", token)
				<-k.now
				k.now <- token
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(server.Close)
	k.auth = server.URL + u.Path
	return k
}

// last is the token issued last.
func (k *tap) last() string {
	token := <-k.now
	k.now <- token
	return token
}
