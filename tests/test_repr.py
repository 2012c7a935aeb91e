"""What agents, learners and games print of themselves at a prompt."""

from keras_dqn import Agent, CartPole


def test_a_game_prints_its_settings():
    text = repr(CartPole(30, recipe="fast", weights=None, weight_backup=None, gamma=0.9, num_envs=2))
    assert text.startswith("CartPole(episodes=30, recipe='fast', num_envs=2, ") and "\n" not in text
    assert "gamma=0.9" in text and "n_step=3" in text and "environment='CartPole-v1'" in text
    assert repr(CartPole(steps=500, weights=None, weight_backup=None)).startswith("CartPole(steps=500, recipe='juvin'")


def test_an_agent_prints_its_settings_and_how_far_it_is():
    agent = Agent(4, 2, weight_backup=None, gamma=0.9, target_update=10, loss="huber")
    for step in range(40):
        agent.remember([step / 40] * 4, 0, 1.0, [step / 40] * 4, False)
    agent.replay()
    text = repr(agent)
    assert text.startswith("Agent(state_size=4, action_size=2, gamma=0.9, ") and "weight_backup=None" in text
    assert "memory=40 of 2,000 transitions" in text
    assert text.endswith(f"learner={agent.learner!r})")
    assert repr(agent.learner) == (
        "Learner(objective=Value(loss='huber'), optimizer=Adam, learning_rate=0.001, "
        "target_update=10, tau=1.0, double=False, updates=32)"
    )
