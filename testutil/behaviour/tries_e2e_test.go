//go:build e2e

package behaviour

import "testing"

func TestWhatATenantCanTryOnARealCloud(t *testing.T) {
	t.Cleanup(func() { removeQueues(t) })
	c, b := devcloud(t), openBoard(t)
	b.police(t, c, []rights{leastRights}, []rights{leastRights})
	tries(newScene(t, c, leastRights), b)
}
