package config

import (
	"reflect"
	"time"

	"staffeln/functions/backup"
)

// A Setting describes one variable, for the manual and for help texts.
type Setting struct {
	// Name is the variable's; a class's has <NAME> in it.
	Name string
	// Default is the value that counts where none is given.
	Default string
	// Unit says what a value looks like.
	Unit string
	// Field is the name of the field in [Config], or in [Class].
	Field string
}

// Settings are all there are, in the order of the manual.
func Settings() []Setting {
	var all []Setting
	units := map[string]string{}
	for _, f := range fields(reflect.TypeFor[Config]()) {
		unit := f.Unit
		switch {
		case f.Type == reflect.TypeFor[int](), f.Type == reflect.TypeFor[time.Duration]():
			unit += f.bounds()
		case f.Type == reflect.TypeFor[backup.Blackouts]():
			unit += "; or none"
		}
		units[f.Key] = unit
		all = append(all, Setting{Prefix + f.Key, f.Default, unit, f.Name})
	}
	for _, f := range fields(reflect.TypeFor[Class]()) {
		all = append(all, Setting{classPrefix + "<NAME>_" + f.Key, "that of " + Prefix + f.Of, units[f.Of], f.Name})
	}
	return all
}
