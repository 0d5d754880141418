package contract

import "slices"

// steps are tried in this order, in an empty project with the default quota. They build
// on each other: a step uses what those before it have made and kept.
var steps = slices.Concat(identitySteps, volumeSteps, serverSteps, backupSteps, makerSteps, goingSteps, peopleSteps)
