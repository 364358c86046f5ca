// An OpenID provider for the tests: the example server of zitadel/oidc with access tokens that are JWTs.
//
// The client `sid1` with the secret `verysecret` gets tokens by client credentials. SIGHUP makes a new signing key, and
// forgets the old one. Environment: PORT, and ISSUER if clients reach it by an address other than localhost.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/go-jose/go-jose/v4"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// rotating takes its keys from the newest storage, and everything else from the first one.
type rotating struct {
	*storage.Storage
	keys atomic.Pointer[storage.Storage]
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func (s *rotating) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	client, err := s.Storage.ClientCredentials(ctx, id, secret)
	if err != nil {
		return nil, err
	}
	return jwtClient{client}, nil
}

func (s *rotating) SigningKey(ctx context.Context) (op.SigningKey, error) {
	return s.keys.Load().SigningKey(ctx)
}

func (s *rotating) SignatureAlgorithms(ctx context.Context) ([]jose.SignatureAlgorithm, error) {
	return s.keys.Load().SignatureAlgorithms(ctx)
}

func (s *rotating) KeySet(ctx context.Context) ([]op.Key, error) {
	return s.keys.Load().KeySet(ctx)
}

func main() {
	port := os.Getenv("PORT")
	issuer := os.Getenv("ISSUER")
	if issuer == "" {
		issuer = fmt.Sprintf("http://localhost:%s/", port)
	}
	users := storage.NewUserStore(issuer)
	store := &rotating{Storage: storage.NewStorage(users)}
	store.keys.Store(store.Storage)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for range signals {
			store.keys.Store(storage.NewStorage(users))
		}
	}()
	router := exampleop.SetupServer(issuer, store, slog.New(slog.NewTextHandler(os.Stderr, nil)), false)
	log.Fatal(http.ListenAndServe(":"+port, router))
}
