//go:build e2e

package behaviour

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The cloud is that of STAFFELN_DEVCLOUD (Keystone's address), by default the
// one that `make devcloud` starts. DEVCLOUD_DIR is where its state is.
func TestOnARealCloudWithTheRoleAdmin(t *testing.T)   { onARealCloud(t, adminRights) }
func TestOnARealCloudWithTheLeastRights(t *testing.T) { onARealCloud(t, leastRights) }

func onARealCloud(t *testing.T, r rights) {
	t.Cleanup(func() { removeQueues(t) })
	if r.name == leastRights.name {
		c := devcloud(t)
		c.policy(t, showsMakers(t, c, r))
	}
	run(t, r, 4, devcloud)
}

// removeQueues removes the queues that the programs have left in the broker.
func removeQueues(t *testing.T) {
	conn, err := amqp.Dial(devcloudBroker)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Error(err)
		return
	}
	for queue := range strings.Lines(rabbitmqctl(t, "list_queues", "name")) {
		if queue = strings.TrimSpace(queue); strings.HasPrefix(queue, "behaviour-") {
			if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

const devcloudBroker = "amqp://openstack:" + password + "@127.0.0.1:5673/"

func devcloud(t *testing.T) *cloud {
	c := &cloud{
		auth:   cmp.Or(os.Getenv("STAFFELN_DEVCLOUD"), "http://127.0.0.1:5000/v3"),
		broker: devcloudBroker,
		poll:   500 * time.Millisecond, patience: 20 * time.Second, slot: time.Minute, period: 90 * time.Second,
		beat: 15 * time.Second, life: 2 * time.Minute, archive: "archive", shared: true,
		// Cinder's Ceph driver looks for it in the pool of all others, whatever its container
		// (cinder/backup/drivers/ceph.py, _get_restore_point).
		fetch: func(t *testing.T, volume, backup string) func() {
			name := "/volume-" + volume + ".backup." + backup
			rbd(t, "deep", "cp", "--no-progress", "archive"+name, "backups"+name)
			return func() {
				rbd(t, "snap", "purge", "--no-progress", "backups"+name)
				rbd(t, "rm", "--no-progress", "backups"+name)
			}
		},
		write: writeImage, sum: sumImage,
		// Cinder cannot snapshot what is not there. It tells nobody but whoever reads the
		// backup's fail_reason.
		spoil:    func(t *testing.T, volume string) { rbd(t, "rename", image(volume), "volumes/gone-"+volume) },
		mend:     func(t *testing.T, volume string) { rbd(t, "rename", "volumes/gone-"+volume, image(volume)) },
		reason:   "RBD image not found",
		policy:   cinderPolicy,
		bindings: func(t *testing.T) string { return rabbitmqctl(t, "list_bindings", "source_name", "destination_name") },
		restartBroker: func(t *testing.T, without func()) {
			script(t, "down", "rabbitmq")
			without()
			script(t, "up")
		},
	}
	admin := &session{auth: c.auth, user: "admin", password: password, project: "admin"}
	var flavors struct{ Flavors []struct{ ID string } }
	if err := admin.call("GET", "compute", "/flavors", nil, &flavors); err != nil {
		t.Fatalf("there is no cloud at %s, see testutil/devcloud/README.md (make devcloud): %v", c.auth, err)
	}
	var images struct{ Images []struct{ ID string } }
	if err := admin.call("GET", "image", "/v2/images", nil, &images); err != nil {
		t.Fatal(err)
	}
	if len(flavors.Flavors) == 0 || len(images.Images) == 0 {
		t.Fatal("the cloud has no flavor or no image: run testutil/devcloud/seed")
	}
	c.flavor, c.image = flavors.Flavors[0].ID, images.Images[0].ID
	for _, service := range []string{"identity", "compute", "volumev3"} {
		u, err := url.Parse(admin.catalog[service])
		if err != nil || u.Host == "" {
			t.Fatalf("the catalog has no usable %s", service)
		}
		c.origins = append(c.origins, u.Scheme+"://"+u.Host)
	}
	return c
}

// cinderPolicy is a file in place as Cinder's policy until it is restored.
func cinderPolicy(t *testing.T, file string) func() {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	return hold(t, "policy", path)
}

// hold runs a script of testutil/devcloud's that puts something in place and holds out
// until its standard input ends, as it does however this process ends.
func hold(t *testing.T, name string, args ...string) (restore func()) {
	t.Helper()
	cmd := exec.Command(filepath.Join("..", "devcloud", name), args...)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	restore = sync.OnceFunc(func() {
		input.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("testutil/devcloud/%s: %v", name, err)
		}
	})
	t.Cleanup(restore)
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil || said != "in place\n" {
		t.Fatalf("testutil/devcloud/%s said %q: %v", name, said, err)
	}
	return restore
}

func script(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join("..", "devcloud", name), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("testutil/devcloud/%s: %v\n%s", name, err, out)
	}
}

// rabbitmqctl asks the cloud's broker.
func rabbitmqctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("bash", append([]string{"-c", `. ../devcloud/lib.sh; rabbitmqctl -q "$@"`,
		"rabbitmqctl"}, args...)...).Output()
	if err != nil {
		t.Errorf("rabbitmqctl %s: %v", args[0], err)
	}
	return string(out)
}

func state() string { return cmp.Or(os.Getenv("DEVCLOUD_DIR"), "/var/lib/devcloud") }

func image(volume string) string { return "volumes/volume-" + volume }

func rbdCommand(args ...string) *exec.Cmd {
	return exec.Command("rbd", append([]string{"-c", filepath.Join(state(), "etc", "ceph.conf")}, args...)...)
}

func rbd(t *testing.T, args ...string) {
	t.Helper()
	if out, err := rbdCommand(args...).CombinedOutput(); err != nil {
		t.Fatalf("rbd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// writeImage writes 64 KiB that follow from the seed at eight places of a volume.
func writeImage(t *testing.T, volume, seed string) {
	t.Helper()
	const program = `
import hashlib, sys, rados, rbd
conf, volume, seed = sys.argv[1:]
with rados.Rados(conffile=conf) as cluster, cluster.open_ioctx('volumes') as pool, \
        rbd.Image(pool, 'volume-' + volume) as image:
    for i in range(8):
        digest = hashlib.sha512(f'{volume} {seed} {i}'.encode()).digest()
        image.write(digest * 1024, int.from_bytes(digest[:4], 'big') % (image.size() - 65536))
`
	// Debian's own interpreter has Ceph's modules.
	cmd := exec.Command("/usr/bin/python3", "-c", program, filepath.Join(state(), "etc", "ceph.conf"), volume, seed)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("write to volume %s: %v\n%s", volume, err, out)
	}
}

func sumImage(t *testing.T, volume string) string {
	t.Helper()
	cmd := rbdCommand("export", "--no-progress", image(volume), "-")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	_, err = io.Copy(sum, out)
	if werr := cmd.Wait(); err != nil || werr != nil {
		t.Fatalf("read volume %s: %v, %v", volume, err, werr)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
