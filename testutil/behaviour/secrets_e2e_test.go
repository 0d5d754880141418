//go:build e2e

package behaviour

import "testing"

// The same on a real cloud: its services' words, its tokens, its notifications.
func TestSecretsAreToldToNobodyOnARealCloud(t *testing.T) {
	t.Cleanup(func() { removeQueues(t) })
	hidden(t, devcloud(t), func(user, password string) {
		rabbitmqctl(t, "add_user", user, password)
		rabbitmqctl(t, "set_permissions", "-p", "/", user, ".*", ".*", ".*")
		t.Cleanup(func() { rabbitmqctl(t, "delete_user", user) })
	})
}
