// Command staffeln runs every function in one process, and is the operator's
// command line.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Run     runCommand     `cmd:"" help:"Run every function in this process, until SIGTERM."`
	Check   checkCommand   `cmd:"" help:"Check the settings and the connections, and say what is wrong."`
	Plan    planCommand    `cmd:"" help:"Show what would be backed up and removed at a moment, and why. Changes nothing."`
	Brake   brakeCommand   `cmd:"" help:"Show what retention holds back, and release the brake."`
	Adopt   adoptCommand   `cmd:"" help:"Make unverified backups count as the service's own: those of which Cinder does not show who made them, after the ledger was lost. Only shows them without --yes."`
	Report  reportCommand  `cmd:"" help:"The digests that the owners of projects get."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

func main() {
	var c commands
	k := kong.Parse(&c, kong.Name("staffeln"),
		kong.Description("Automatic backups of OpenStack VM volumes. All settings are environment variables: see docs/settings.md."),
		kong.UsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "staffeln:", err)
		stop()
		os.Exit(1)
	}
}
