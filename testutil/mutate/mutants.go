package main

import (
	"fmt"

	"staffeln/functions/backup"
)

// A mutant is the program with one small thing in it that is wrong.
type mutant struct {
	ID       int
	File     string // from the module's root
	Line     int
	Function string // or the name of a script
	Change   string // "what was → what it becomes"
}

// name is what it is called in explained.txt: no line, since that is another one
// after the next change.
func (m mutant) name() string { return m.File + ": " + m.Function + ": " + m.Change }

// short is a piece of source in a line.
func short(src string) string { return backup.Line(src, 100) }

// numberRepeats tells mutants apart that have the same name.
func numberRepeats(all []mutant) {
	seen := map[string]int{}
	for i, m := range all {
		seen[m.name()]++
		if n := seen[m.name()]; n > 1 {
			all[i].Change += fmt.Sprintf(" #%d", n)
		}
	}
}
