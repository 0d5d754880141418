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
	// Field is the field that describes it, such as Config.Period or TLSClient.CA. Settings
	// that follow one another and have the same one are described together.
	Field string
	// Group is the heading that it stands under.
	Group string
}

// Settings are all there are, in the order of the manual.
func Settings() []Setting {
	var all []Setting
	group := ""
	of := func(prefix, owner string, f field) {
		unit := f.Unit
		switch {
		case f.Type == reflect.TypeFor[int](), f.Type == reflect.TypeFor[time.Duration]():
			unit += f.bounds()
		case f.Type == reflect.TypeFor[backup.Blackouts]():
			unit += "; or none"
		}
		all = append(all, Setting{prefix + f.Key, f.Default, unit, owner + "." + f.Name, group})
	}
	t, own, done := reflect.TypeFor[Config](), fields(reflect.TypeFor[Config]()), map[reflect.Type]bool{}
	for f := range t.Fields() {
		if g := f.Tag.Get("group"); g != "" {
			group = g
		}
		switch {
		case f.Tag.Get("prefix") != "":
			if done[f.Type] {
				continue // told with the first of its kind
			}
			done[f.Type] = true
			for _, sub := range fields(f.Type) {
				for other := range t.Fields() {
					if other.Type == f.Type {
						of(Prefix+other.Tag.Get("prefix"), f.Type.Name(), sub)
					}
				}
			}
		case f.Type == reflect.TypeFor[map[string]Class]():
			for _, sub := range fields(reflect.TypeFor[Class]()) {
				all = append(all, Setting{classPrefix + "<NAME>_" + sub.Key, "as without the class", "as there",
					"Config." + f.Name, group})
			}
		default:
			for _, one := range own {
				if one.Name == f.Name {
					of(Prefix, "Config", one)
				}
			}
		}
	}
	return all
}
