package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// handshake bounds the making of a connection, TLS and login included.
const handshake = 15 * time.Second

var errHungUp = errors.New("the broker hung up before the connection was made: it may want a certificate of the client's, or another one")

// dial connects; name is what the broker's own tools show of the connection.
func dial(ctx context.Context, brokerURL string, config *tls.Config, name string) (*amqp091.Connection, error) {
	if config != nil {
		config = config.Clone()
	}
	var handshaken func() bool
	conn, err := amqp091.DialConfig(brokerURL, amqp091.Config{
		Heartbeat:       10 * time.Second,
		TLSClientConfig: config,
		Properties:      amqp091.Table{"connection_name": name, "product": "staffeln"},
		Dial: func(network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: handshake}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			handshaken = context.AfterFunc(ctx, func() { conn.Close() })
			// amqp091 lifts the deadline when the connection is open.
			return conn, conn.SetDeadline(time.Now().Add(handshake))
		},
	})
	if handshaken != nil {
		handshaken()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, amqp091.ErrClosed) || errors.Is(err, net.ErrClosed) {
			// amqp091 tells the reason only to whom listens, and nobody can so early.
			return nil, errHungUp
		}
		return nil, plain(err)
	}
	return conn, nil
}

// plain makes amqp091's errors fit for a log.
func plain(err error) error {
	if errors.Is(err, amqp091.ErrCredentials) {
		return errors.New("the broker refuses the user name or password")
	}
	if errors.Is(err, amqp091.ErrVhost) {
		return errors.New("the broker does not let this user into the vhost, or there is none of that name")
	}
	return err
}

// code is the AMQP reply code of an error; 0 where it has none.
func code(err error) int {
	if e, ok := errors.AsType[*amqp091.Error](err); ok {
		return e.Code
	}
	return 0
}
