//go:build e2e

package behaviour

import "testing"

func TestWhatATenantCanTryOnARealCloud(t *testing.T) {
	t.Cleanup(func() { removeQueues(t) })
	c, b := devcloud(t), openBoard(t)
	both := []rights{adminRights, leastRights}
	b.police(t, c, both, both)
	tenantTries(t, func(*testing.T, rights) (*cloud, *board) { return c, b })
}
