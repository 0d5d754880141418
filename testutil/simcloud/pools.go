package simcloud

import (
	"time"

	"staffeln/testutil/simcloud/model"
)

// SetPool says how a container is from now on.
func (c *Cloud) SetPool(container string, p Pool) {
	c.do(func(s *model.State, _ time.Time) { s.Pools[container] = p })
}
