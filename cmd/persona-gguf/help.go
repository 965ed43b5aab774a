package main

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// valueNames are what the help calls a flag's value, in place of pflag's names of Go types.
var valueNames = map[string]string{
	" string": " TEXT", " stringArray": " TEXT", " int": " N", " ints": " N,N", " float32": " X", " float": " X", "[=true|false]": "",
}

var valueName = regexp.MustCompile(`^( +(?:-\w, )?--[\w-]+)( stringArray| string| ints| int| float32| float|\[=true\|false\])\b?`)

// flagUsages is the list of flags for the help.
func flagUsages(f *pflag.FlagSet) string {
	var b strings.Builder
	for line := range strings.Lines(f.FlagUsagesWrapped(120)) {
		if m := valueName.FindStringSubmatch(line); m != nil {
			name := valueNames[m[2]]
			line = m[1] + name + strings.Repeat(" ", len(m[2])-len(name)) + line[len(m[0]):]
		}
		b.WriteString(line)
	}
	return b.String()
}

// setHelp has the command and those under it describe their flags with flagUsages.
func setHelp(root *cobra.Command) {
	cobra.AddTemplateFunc("flagUsages", flagUsages)
	root.SetUsageTemplate(strings.NewReplacer(
		".LocalFlags.FlagUsages", "flagUsages .LocalFlags",
		".InheritedFlags.FlagUsages", "flagUsages .InheritedFlags",
	).Replace(root.UsageTemplate()))
}
