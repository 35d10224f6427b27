package identity

import "context"

type sourceFunc func(context.Context, Principal, string) (*Token, error)

func (f sourceFunc) Token(ctx context.Context, p Principal, resource string) (*Token, error) {
	return f(ctx, p, resource)
}
