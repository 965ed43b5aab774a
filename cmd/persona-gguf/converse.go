package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/chat"
	"github.com/persona-gguf/persona-gguf/internal/progress"
)

const chatHelp = `In a conversation:
  /system TEXT  change the system message
  /clear        forget the conversation
  /help         show this
  /bye          leave; so does the end of the input (Ctrl-D)`

// converse holds a conversation: a line from stdin, a reply, and so on.
func (a *app) converse(ctx context.Context, c chatFlags, o chat.Options) error {
	s, err := a.openChat(ctx, c, o)
	if err != nil {
		return err
	}
	defer s.Close()
	ask := ""
	if progress.IsTerminal(a.stdin) {
		ask = ">>> "
		fmt.Fprintln(a.stdout, "/help for help, /bye to leave")
	}
	lines := readLines(a.stdin)
	for text := c.prompt; ; text = "" {
		if text == "" {
			fmt.Fprint(a.stdout, ask)
			if text, err = nextLine(ctx, lines); err != nil {
				if ask != "" {
					fmt.Fprintln(a.stdout) // the shell's own prompt begins on a new line
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
		done, err := a.turn(ctx, c, s, text)
		if done || err != nil {
			return err
		}
	}
}

// turn does what one line asks for. A conversation that has become too long is no reason to end it.
func (a *app) turn(ctx context.Context, c chatFlags, s *chat.Session, text string) (done bool, err error) {
	command, rest, _ := strings.Cut(text, " ")
	switch {
	case strings.TrimSpace(text) == "":
		return false, nil
	case command == "/bye" || command == "/exit" || command == "/quit":
		return true, nil
	case command == "/clear":
		s.Clear()
		return false, nil
	case command == "/system":
		s.SetSystem(strings.TrimSpace(rest))
		return false, nil
	case command == "/help" || command == "/?":
		_, err := fmt.Fprintln(a.stdout, chatHelp)
		return false, err
	case strings.HasPrefix(command, "/") && !strings.Contains(command[1:], "/"):
		slog.Warn(fmt.Sprintf("unknown command %s; /help lists them", command))
		return false, nil
	}
	reply, err := s.Say(ctx, text, a.stream)
	if reply.EvalCount > 0 {
		fmt.Fprintln(a.stdout)
	}
	if errors.Is(err, chat.ErrContextFull) {
		slog.Error(err.Error())
		fmt.Fprintf(a.stderr, "hint: %s\n", hintFor(err))
		return false, nil
	}
	if err == nil {
		a.comment(c, s, reply)
	}
	return false, err
}

// line is one line of input, or why there is none.
type line struct {
	text string
	err  error
}

// readLines reads in a goroutine of its own, so that a signal is noticed while nobody types. It ends with
// the input or with the program.
func readLines(r io.Reader) <-chan line {
	lines := make(chan line)
	go func() {
		in := bufio.NewReader(r)
		for {
			text, err := in.ReadString('\n')
			if text != "" {
				lines <- line{text: strings.TrimRight(text, "\r\n")}
			}
			if err != nil {
				lines <- line{err: err}
				return
			}
		}
	}()
	return lines
}

func nextLine(ctx context.Context, lines <-chan line) (string, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case l := <-lines:
		return l.text, l.err
	}
}
