// Command soak plays random histories of whole clouds in which everything fails, and holds
// the promises of docs/reliability.md against them.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"staffeln/runtime/process"
	"staffeln/testutil/simulate"
)

type soak struct {
	Seed      *uint64       `help:"Play the history of this number, and tell what happens."`
	History   string        `help:"Play the history in this file, and tell what happens." type:"existingfile"`
	Log       string        `help:"The service's log level." enum:"debug,info,warn,error,none" default:"info"`
	Histories int           `help:"How many histories to play; 0 for as many as there is time for." default:"100"`
	From      uint64        `help:"The number of the first of them." default:"1"`
	For       time.Duration `help:"For how long; 0 until they are over."`
	Workers   int           `help:"How many are played at once." default:"2"`
	Redis     string        `help:"A Redis whose databases are EMPTIED; by default one is started."`
}

func main() {
	var c soak
	kong.Parse(&c, kong.Name("soak"), kong.Description("Play random histories of whole clouds in which everything "+
		"fails, and hold the promises of docs/reliability.md against them."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}

func (c soak) run(ctx context.Context) error {
	// A Redis that is killed on purpose is no news.
	process.RedisLog(slog.New(slog.DiscardHandler))
	debug.SetGCPercent(400) // there is little to keep, and much to throw away
	if c.For > 0 {
		limited, cancel := context.WithTimeout(ctx, c.For)
		defer cancel()
		ctx = limited
	}
	if c.Redis == "" {
		url, stop, err := simulate.Redis(context.WithoutCancel(ctx), max(c.Workers, 1))
		if err != nil {
			return err
		}
		defer stop()
		c.Redis = url
	}
	if c.Seed == nil && c.History == "" {
		s := &simulate.Soak{Seed: c.From, Histories: c.Histories, Workers: c.Workers, Redis: c.Redis, Out: os.Stdout}
		return s.Run(ctx)
	}
	var h simulate.History
	if c.History != "" {
		text, err := os.ReadFile(c.History)
		if err == nil {
			h, err = simulate.Parse(string(text))
		}
		if err != nil {
			return err
		}
	} else {
		h = simulate.Draw(*c.Seed)
	}
	level := slog.Level(100)
	if c.Log != "none" {
		_ = level.UnmarshalText([]byte(c.Log)) // one of four words, checked
	}
	fmt.Println(h)
	tally, err := h.Play(ctx, simulate.Options{Redis: c.Redis, Tell: os.Stdout, Level: level})
	if err != nil {
		return err
	}
	fmt.Printf("every promise was kept: %d backups, %d of them removed, %d digests, faults %v\n", tally.Backups,
		tally.Removals, tally.Digests, tally.Faults)
	return nil
}
